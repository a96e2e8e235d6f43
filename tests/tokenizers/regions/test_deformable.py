"""Deformable attention against loops with bilinear interpolation by hand, in values and gradients.

Shape suffixes: B pictures, Q queries, S cells of all maps, h heads, d width of a head, L maps, P points, D width.
"""

import pytest
import torch
from torch import Tensor

from uniperceiver.streams import torch_stream
from uniperceiver.tokenizers.regions.deformable import DeformableAttention, look, look_plainly
from uniperceiver.tokenizers.regions.places import Grid

B, Q, HEADS, D, POINTS = 2, 3, 2, 8, 3
SIZES = ((5, 7), (3, 4), (2, 2), (1, 1))


def case(levels: int) -> tuple[list[Tensor], Tensor, Tensor]:
    """Maps, places and weights in float64; some places lie outside of the maps."""
    stream = torch_stream(0, "look", levels)
    maps = [torch.randn(B * HEADS, D // HEADS, *size, generator=stream, dtype=torch.float64) for size in SIZES[:levels]]
    location = 1.8 * torch.rand(B, Q, HEADS, levels, POINTS, 2, generator=stream, dtype=torch.float64) - 0.4
    share = torch.rand(B, Q, HEADS, levels, POINTS, generator=stream, dtype=torch.float64)
    return maps, location, share


def gradients(function: object, levels: int) -> list[Tensor]:
    """The result, then the gradients of all inputs."""
    maps, location, share = case(levels)
    inputs = [tensor.requires_grad_() for tensor in (*maps, location, share)]
    result = function(inputs[:levels], location, share)  # type: ignore[operator]
    weight = torch.randn(result.shape, generator=torch_stream(1), dtype=torch.float64)
    return [result.detach(), *torch.autograd.grad((result * weight).sum(), inputs)]


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_it_is_the_sum_over_points_of_maps(levels: int) -> None:
    _, location, _ = case(levels)
    assert ((location < 0) | (location > 1)).any(dim=-1).float().mean() > 0.2
    fast, plain = gradients(look, levels), gradients(look_plainly, levels)
    assert fast[0].shape == (B, Q, D)
    for left, right in zip(fast, plain, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-10)


@pytest.mark.parametrize("levels", [1, 3])
def test_gradients_are_those_of_finite_differences(levels: int) -> None:
    maps, location, share = case(levels)
    inputs = [tensor.requires_grad_() for tensor in (*maps, location, share)]
    assert torch.autograd.gradcheck(lambda *values: look(values[:levels], values[-2], values[-1]), inputs)


GRIDS = (
    Grid(rows=5, columns=7, height=1 / 5, width=1 / 7),
    Grid(rows=3, columns=4, height=2 / 5, width=2 / 7),  # reaches over the right and lower border
)


def attention(heads: int = HEADS) -> DeformableAttention:
    torch.manual_seed(0)
    attention = DeformableAttention(D, heads, levels=len(GRIDS), points=POINTS)
    attention.initialise()
    return attention


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, boxes and cells."""
    stream = torch_stream(2)
    query_BQD = torch.randn(B, Q, D, generator=stream, dtype=dtype)
    box_BQ4 = 0.2 + 0.5 * torch.rand(B, Q, 4, generator=stream, dtype=dtype)
    return query_BQD, box_BQ4, torch.randn(B, sum(grid.cells for grid in GRIDS), D, generator=stream, dtype=dtype)


def test_at_the_start_heads_look_in_a_ring_as_far_as_the_border_of_the_box() -> None:
    four = attention(heads=4)
    offset = four.offset(torch.randn(1, D)).view(4, len(GRIDS), POINTS, 2)
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    for point in range(POINTS):
        torch.testing.assert_close(offset[:, 0, point], directions * (point + 1), atol=1e-6, rtol=0)
        assert torch.equal(offset[:, 1, point], offset[:, 0, point])
    assert not four.share(torch.randn(1, D)).any()  # all points count alike


def test_a_query_sees_what_its_formula_says() -> None:
    layer = attention().double()
    torch.manual_seed(1)
    for linear in (layer.offset, layer.share):
        torch.nn.init.normal_(linear.weight)
    query_BQD, box_BQ4, cell_BSD = inputs(torch.float64)
    offset = layer.offset(query_BQD).view(B, Q, HEADS, 2, POINTS, 2)
    location = box_BQ4[:, :, None, None, None, :2] + offset / POINTS * box_BQ4[:, :, None, None, None, 2:] / 2
    location[:, :, :, 1] *= torch.tensor(
        [7 / 8, 5 / 6], dtype=torch.float64
    )  # the coarser map is a cell of the finer one larger
    share = layer.share(query_BQD).view(B, Q, HEADS, -1).softmax(dim=-1).view(B, Q, HEADS, 2, POINTS)
    maps, start = [], 0
    for grid in GRIDS:
        value = layer.value(cell_BSD[:, start : start + grid.cells])
        maps.append(value.view(B, grid.rows, grid.columns, HEADS, -1).permute(0, 3, 4, 1, 2).flatten(0, 1))
        start += grid.cells
    expected = layer.out(look_plainly(maps, location, share))
    torch.testing.assert_close(layer(query_BQD, box_BQ4, cell_BSD, GRIDS), expected, rtol=0, atol=1e-10)


def test_places_stay_in_float32_under_autocast() -> None:
    layer, (query_BQD, box_BQ4, cell_BSD) = attention(), inputs()
    torch.nn.init.normal_(layer.offset.weight)
    exact = layer.offset(query_BQD)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer.offset(query_BQD), exact)
        looked = layer(query_BQD, box_BQ4, cell_BSD, GRIDS)
    torch.testing.assert_close(looked.float(), layer(query_BQD, box_BQ4, cell_BSD, GRIDS), rtol=0.05, atol=0.05)
