"""Layers between the maps of a backbone and the decoder: what they compute, what they teach, and when there are any."""

from dataclasses import asdict

import pytest
import torch
from torch import Tensor

from tests.tokenizers.regions.test_tokens import HEADS, D, drawn, gradients_of, layers_of, pixels, trained
from uniperceiver.config import ModelConfig, RegionsConfig
from uniperceiver.runs.architecture import region_shape
from uniperceiver.streams import torch_stream
from uniperceiver.strict import parse
from uniperceiver.tokenizers.regions.backbone import Maps
from uniperceiver.tokenizers.regions.deformable import look_plainly
from uniperceiver.tokenizers.regions.encoder import EncoderLayer, MapEncoder
from uniperceiver.tokenizers.regions.places import Grid, anchors, positions
from uniperceiver.tokenizers.regions.shape import RegionShape

GRIDS = (Grid(rows=3, columns=2, height=1 / 3, width=1 / 2), Grid(rows=2, columns=1, height=2 / 3, width=1.0))


def maps() -> Maps:
    cells = sum(grid.cells for grid in GRIDS)
    cell_BSD = torch.randn(2, cells, D, generator=torch_stream(0), dtype=torch.float64)
    return Maps(cell_BSD=cell_BSD, grids=GRIDS, fine_BCHW=torch.ones(2, 1, 4, 4))


def encoder(layers: int = 2) -> MapEncoder:
    torch.manual_seed(0)
    module = MapEncoder(D, HEADS, layers, levels=2, points=2).double()
    module.initialise(torch_stream(1))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch_stream(2), dtype=torch.float64), alpha=0.1)
    return module


def layer_by_hand(layer: EncoderLayer, cell_BSD: Tensor, position_SD: Tensor) -> Tensor:
    """Attention by loops over places, with the cell's anchor as the box that offsets are measured in."""
    normed_BSD = layer.norm1(cell_BSD)
    query_BSD, look = normed_BSD + position_SD, layer.look
    anchor_S4 = anchors(GRIDS, torch.device("cpu")).double()
    shape = (*query_BSD.shape[:2], HEADS, 2, 2)
    offset = look.offset(query_BSD).view(*shape, 2)
    share = look.share(query_BSD).view(*shape[:3], -1).softmax(dim=-1).view(shape)
    location = torch.empty_like(offset)
    for cell in range(len(anchor_S4)):
        for level, grid in enumerate(GRIDS):
            span = torch.tensor(grid.span, dtype=torch.float64)
            moved = offset[:, cell, :, level] * anchor_S4[cell, 2:] / 2 / 2
            location[:, cell, :, level] = (anchor_S4[cell, :2] + moved) / span
    seen_BSD = look.out(look_plainly(look._maps(normed_BSD, GRIDS), location, share))
    cell_BSD = cell_BSD + seen_BSD
    return cell_BSD + layer.ffn(layer.norm2(cell_BSD))


def test_layers_are_the_formula() -> None:
    module, given = encoder(), maps()
    places = [positions(grid, D, torch.device("cpu")) + level for grid, level in zip(GRIDS, module.level, strict=True)]
    cell_BSD = given.cell_BSD
    for layer in module.layers:
        assert isinstance(layer, EncoderLayer)
        cell_BSD = layer_by_hand(layer, cell_BSD, torch.cat(places))
    result = module(given)
    torch.testing.assert_close(result.cell_BSD, module.norm(cell_BSD), rtol=0, atol=1e-6)  # anchors are float32
    assert result.grids is given.grids
    assert result.fine_BCHW is given.fine_BCHW


def test_every_parameter_of_it_has_a_use_and_the_backbone_learns_through_it() -> None:
    tokenizer = trained(masks=True, encoder=2)
    x_BGD, regions = tokenizer.propose(pixels())
    loss = x_BGD.square().mean() + sum(said.square().mean() for said in layers_of(regions))
    sizes = gradients_of(tokenizer, loss)
    assert [name for name, size in sizes.items() if not size] == []
    assert sum(name.startswith("encoder.layers.1") for name in sizes) == 16


def test_it_draws_its_own_numbers_after_the_backbone_and_none_without_layers() -> None:
    plain, deep = drawn(), drawn(encoder=1)
    assert plain.encoder is None
    assert not any(name.startswith("encoder") for name, _ in plain.named_parameters())
    assert deep.encoder is not None
    assert 0 < deep.encoder.level.std() < 0.04
    assert "encoder" not in RegionShape().to_json()
    assert RegionShape(encoder=2).to_json()["encoder"] == 2


def test_old_shapes_have_no_encoder() -> None:
    values = asdict(RegionShape())
    for name in ("encoder", "attention", "name_bias"):
        del values[name]
    assert parse(RegionShape, values, "config.json") == RegionShape()


@pytest.mark.parametrize(("asked", "layers"), [(None, 0), (0, 0), (3, 3)])
def test_a_plain_backbone_has_an_encoder_only_where_one_is_asked_for(asked: int | None, layers: int) -> None:
    config = ModelConfig(image="regions", regions=RegionsConfig(encoder=asked))
    shape = region_shape(config, masks=False, pixels=64)
    assert shape is not None
    assert shape.encoder == layers
