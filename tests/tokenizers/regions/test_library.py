"""Backbones of the library transformers: their maps, their weights from a folder, and what stays as it was trained.

Shape suffixes: B pictures, C channels, H W pixels.
"""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tokenizers.regions.test_tokens import HEADS, PATCH, SMALL, D, gradients_of, layers_of, pixels
from uniperceiver.config import ModelConfig, RegionsConfig
from uniperceiver.errors import UserError
from uniperceiver.runs.architecture import region_shape
from uniperceiver.streams import torch_stream
from uniperceiver.tokenizers.regions.library import LibraryBackbone, library_shape, load_library_weights, new_body
from uniperceiver.tokenizers.regions.shape import LibraryShape, RegionShape
from uniperceiver.tokenizers.regions.tokens import RegionTokenizer

pytest.importorskip("transformers")

KINDS: dict[str, dict[str, Any]] = {
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"},
    "swin": {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2], "window_size": 7},
    "dinov2": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
}


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the hub has them, of a tiny backbone whose norms have seen something."""
    torch.manual_seed(0)
    body = new_body({"model_type": request.param, **KINDS[request.param]})
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    folder = tmp_path_factory.mktemp("hub") / request.param
    body.save_pretrained(folder)  # type: ignore[operator]
    return folder


def tokenizer_of(library: LibraryShape, **fields: Any) -> RegionTokenizer:
    shape = RegionShape(**{**SMALL, "library": library, "levels": 3, **fields})
    tokenizer = RegionTokenizer(D, HEADS, PATCH, shape)
    tokenizer.initialise(torch_stream(0))
    return tokenizer


def test_strides_are_those_of_the_coarsest_maps(folder: Path) -> None:
    expected = {"resnet": (8, 16, 32), "swin": (8, 16, 32), "dinov2": (14,)}
    assert library_shape(str(folder), levels=3).strides == expected[folder.name]


def test_maps_have_one_width_and_cover_the_picture(folder: Path) -> None:
    tokenizer = tokenizer_of(library_shape(str(folder), levels=3), masks=True)
    maps = tokenizer.backbone(pixels(height=70, width=98))
    strides = [grid.height * 70 for grid in maps.grids]
    assert strides == pytest.approx([14, 28, 56] if folder.name == "dinov2" else [8, 16, 32])
    assert [grid.width * 98 for grid in maps.grids] == pytest.approx(strides)
    for grid in maps.grids:
        assert all(share > 1 - 1e-6 for share in grid.span)
    assert maps.cell_BSD.shape == (2, sum(grid.cells for grid in maps.grids), D)
    _, regions = tokenizer.propose(pixels(height=64, width=96))
    mask_BQHW = regions.layers[-1].mask_BQHW
    assert mask_BQHW is not None
    assert mask_BQHW.shape == (2, 6, 16, 24)


def test_weights_come_from_the_folder_and_a_saved_shape_needs_it_no_more(folder: Path) -> None:
    library = library_shape(str(folder), levels=3)
    tokenizer = tokenizer_of(library)
    assert isinstance(tokenizer.backbone, LibraryBackbone)
    load_library_weights(tokenizer.backbone, str(folder))
    original = type(tokenizer.backbone.body).from_pretrained(folder)  # type: ignore[attr-defined]
    ours = tokenizer.backbone.body.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in original.state_dict().items())
    saved = LibraryShape(**dataclasses.asdict(library))
    again = tokenizer_of(saved)
    again.load_state_dict(tokenizer.state_dict())
    assert torch.equal(again.propose(pixels())[0], tokenizer.propose(pixels())[0])


def test_in_training_it_is_as_in_evaluation(folder: Path) -> None:
    tokenizer = tokenizer_of(library_shape(str(folder), levels=3))
    tokenizer.train()
    before: dict[str, Tensor] = {name: value.clone() for name, value in tokenizer.backbone.named_buffers()}
    x_BGD, regions = tokenizer.propose(pixels(b=3))
    for name, value in tokenizer.backbone.named_buffers():
        assert torch.equal(value, before[name])
    alone_BGD, own = tokenizer.propose(pixels(b=3)[1:2])
    torch.testing.assert_close(alone_BGD[0], x_BGD[1], rtol=1e-5, atol=1e-5)
    for left, right in zip(layers_of(own), layers_of(regions), strict=True):
        torch.testing.assert_close(left[0], right[1], rtol=1e-5, atol=1e-5)


def test_tokens_teach_the_backbone_but_not_its_norms_over_a_batch(folder: Path) -> None:
    tokenizer = tokenizer_of(library_shape(str(folder), levels=3))
    for module in tokenizer.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert not any(parameter.requires_grad for parameter in module.parameters())
    trained = {name for name, parameter in tokenizer.named_parameters() if parameter.requires_grad}
    assert trained
    for parameter in tokenizer.parameters():
        parameter.requires_grad_(True)
    sizes = gradients_of(tokenizer, tokenizer.propose(pixels())[0].square().sum())
    assert sum(sizes[name] > 0 for name in trained if name.startswith("backbone.body")) > 5


def test_what_the_library_draws_is_drawn_from_the_stream(folder: Path) -> None:
    library = library_shape(str(folder), levels=3)
    first, second = tokenizer_of(library), tokenizer_of(library)
    assert isinstance(first.backbone, LibraryBackbone)
    tables = [
        (name, value)
        for name, value in first.backbone.body.named_parameters()
        if id(value) not in first.backbone._of_layers()
    ]
    for name, value in tables:
        assert torch.equal(value, second.backbone.get_submodule("body").get_parameter(name)), name


def test_what_is_no_backbone_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^model.regions.backbone: .*nothing cannot be read \(.*; name a model"
    ) as error:
        library_shape(str(tmp_path / "nothing"), levels=3)
    assert "\n" not in str(error.value)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="is no backbone of transformers"):
        library_shape(str(tmp_path), levels=3)


def test_maps_of_a_library_look_at_each_other_in_six_layers(folder: Path) -> None:
    """But behind a backbone of one map, as plain transformers are, or where the recipe says otherwise."""
    words = {"backbone": f"transformers:{folder}", "levels": 3}
    shapes = [
        region_shape(
            ModelConfig(image="regions", regions=RegionsConfig(**words, **more)),  # type: ignore[arg-type]
            masks=False,
            pixels=64,
        )
        for more in ({}, {"encoder": 1})
    ]
    assert [shape.encoder for shape in shapes if shape] == [0 if folder.name == "dinov2" else 6, 1]
