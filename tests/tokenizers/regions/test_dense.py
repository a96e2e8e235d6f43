"""Dense attention against loops over cells, in values and gradients, with and without the bias by the box.

Shape suffixes: B pictures, Q queries, S cells of all maps, h heads, d width of a head, D width.
"""

import math

import pytest
import torch
from torch import Tensor

from uniperceiver.streams import torch_stream
from uniperceiver.tokenizers.regions.decoder import Decoder
from uniperceiver.tokenizers.regions.deformable import DeformableAttention
from uniperceiver.tokenizers.regions.dense import DenseAttention, box_bias
from uniperceiver.tokenizers.regions.places import Grid, positions
from uniperceiver.tokenizers.regions.shape import RegionShape

B, Q, HEADS, D = 2, 3, 2, 8
GRIDS = (
    Grid(rows=3, columns=4, height=1 / 3, width=1 / 4),
    Grid(rows=2, columns=2, height=2 / 3, width=2 / 4),  # reaches over the lower border
)
S = 3 * 4 + 2 * 2


def case() -> tuple[Tensor, Tensor, Tensor]:
    """Queries, boxes and cells in float64."""
    stream = torch_stream(0, "dense")
    query = torch.randn(B, Q, D, generator=stream, dtype=torch.float64)
    box = torch.rand(B, Q, 4, generator=stream, dtype=torch.float64)
    return query, box, torch.randn(B, S, D, generator=stream, dtype=torch.float64)


def attention(relative: bool) -> DenseAttention:
    torch.manual_seed(0)
    return DenseAttention(D, HEADS, relative=relative).double()


def distance(side: float, centre: float) -> float:
    return math.copysign(math.log2(1 + abs(side - centre)) / 3, side - centre)


def bias_by_hand(module: DenseAttention, box_4: Tensor, head: int) -> list[Tensor]:
    """The bias of every cell for a box, map after map, row by row."""
    cx, cy, w, h = box_4.tolist()
    biases = []
    for grid in GRIDS:
        for row in range(grid.rows):
            for column in range(grid.columns):
                x = [distance((cx + sign * w / 2) / grid.width, column + 0.5) for sign in (-1, 1)]
                y = [distance((cy + sign * h / 2) / grid.height, row + 0.5) for sign in (-1, 1)]
                assert module.across is not None
                assert module.along is not None
                across, along = (
                    part(torch.tensor(sides, dtype=torch.float64))
                    for part, sides in ((module.across, x), (module.along, y))
                )
                biases.append(across[head] + along[head])
    return biases


def look_plainly(module: DenseAttention, query_BQD: Tensor, box_BQ4: Tensor, cell_BSD: Tensor) -> Tensor:
    """The same as the module, one query, head and cell after the other."""
    place_SD = torch.cat([positions(grid, D, torch.device("cpu")) for grid in GRIDS]).double()
    plain, d = module.attention, D // HEADS
    rows = []
    for picture in range(B):
        for number in range(Q):
            heads = []
            for head in range(HEADS):
                own = slice(head * d, (head + 1) * d)
                query_d = plain.query(query_BQD[picture, number])[own]
                scores = [
                    query_d @ plain.key(cell_BSD[picture, cell] + place_SD[cell])[own] / math.sqrt(d)
                    for cell in range(S)
                ]
                if module.across is not None:
                    biases = bias_by_hand(module, box_BQ4[picture, number], head)
                    scores = [score + bias for score, bias in zip(scores, biases, strict=True)]
                share_S = torch.stack(scores).softmax(dim=0)
                values = [share_S[cell] * plain.value(cell_BSD[picture, cell])[own] for cell in range(S)]
                heads.append(torch.stack(values).sum(dim=0))
            rows.append(plain.out(torch.cat(heads)))
    return torch.stack(rows).view(B, Q, D)


@pytest.mark.parametrize("relative", [False, True])
def test_it_is_a_softmax_over_the_cells_of_all_maps(relative: bool) -> None:
    module, (query, box, cell) = attention(relative), case()
    results = []
    for function in (lambda *x: module(*x, GRIDS), lambda *x: look_plainly(module, *x)):
        inputs = [query.clone().requires_grad_(), box, cell.clone().requires_grad_()]
        result = function(*inputs)
        weight = torch.randn(result.shape, generator=torch_stream(1), dtype=torch.float64)
        wanted = [inputs[0], inputs[2], *module.parameters()]
        results.append([result.detach(), *torch.autograd.grad((result * weight).sum(), wanted)])
    assert results[0][0].shape == (B, Q, D)
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-10)


def test_the_bias_depends_on_the_box_alone() -> None:
    module, (query, box, cell) = attention(True), case()
    assert module.across is not None
    assert module.along is not None
    assert box_bias(box, GRIDS, module.across, module.along).shape == (B, HEADS, Q, S)
    assert not torch.equal(module(query, box, cell, GRIDS), module(query, box.flip(1), cell, GRIDS))
    without = attention(False)
    assert torch.equal(without(query, box, cell, GRIDS), without(query, box.flip(1), cell, GRIDS))


@pytest.mark.parametrize(
    ("word", "kind"), [("deformable", DeformableAttention), ("dense", DenseAttention), ("dense_rpb", DenseAttention)]
)
def test_a_shape_chooses(word: str, kind: type) -> None:
    decoder = Decoder(D, HEADS, RegionShape(attention=word, decoder=2), fine_channels=0)  # type: ignore[arg-type]
    looks = [layer.look for layer in decoder.layers]
    assert [type(look) for look in looks] == [kind] * 2
    assert (getattr(looks[0], "across", None) is not None) == (word == "dense_rpb")
