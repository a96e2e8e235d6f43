"""Models by name: their sizes, their first weights, and what cannot be built."""

import math

import pytest
import torch

from tests.moe_cases import moe_of
from tests.tiny import tiny_architecture
from uniperceiver.config import ModelConfig, MoEConfig
from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.build import build
from uniperceiver.model.model import Generalist
from uniperceiver.model.sizes import SIZES
from uniperceiver.runs.architecture import architecture
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.task import TEMPERATURES
from uniperceiver.tokenizers.vision import sincos_1d


def parameters(arch: Architecture) -> dict[str, int]:
    """Number of values per parameter, without making them."""
    with torch.device("meta"):
        return {name: each.numel() for name, each in build(arch, TEMPERATURES).named_parameters()}


def test_nano_has_about_a_million_parameters_beside_its_words() -> None:
    sizes = parameters(
        architecture(ModelConfig(size="nano"), MoEConfig(), tasks=1, vocabulary=2000, end=1998, answer=1999)
    )
    rest = sum(sizes.values()) - sizes["tokenizer.words.words"] - sizes["tokenizer.words.positions"]
    assert 0.9e6 < rest < 1.2e6


@pytest.mark.parametrize(("size", "millions"), [("base", 124.7), ("large", 355.5)])
def test_large_sizes_are_those_of_the_original(size: str, millions: float) -> None:
    """OFFICIAL.md, first table."""
    arch = architecture(ModelConfig(size=size), MoEConfig(), tasks=1, vocabulary=49411, end=49407, answer=49410)
    assert sum(parameters(arch).values()) / 1e6 == pytest.approx(millions, rel=2e-3)


@pytest.mark.parametrize("size", SIZES)
def test_every_size_splits_into_heads_and_fields_override_it(size: str) -> None:
    arch = architecture(ModelConfig(size=size), MoEConfig(), tasks=1, vocabulary=10, end=8, answer=9)
    assert (arch.width, arch.layers, arch.heads) == (SIZES[size].width, SIZES[size].layers, SIZES[size].heads)
    assert arch.width % arch.heads == 0
    assert arch.ffn == 4 * arch.width
    config = ModelConfig(size=size, width=24, layers=1, heads=2, patch=4, max_text=9, max_frames=2, drop_path=0.2)
    arch = architecture(config, MoEConfig(), tasks=1, vocabulary=10, end=8, answer=9)
    assert (arch.width, arch.layers, arch.heads, arch.ffn, arch.patch) == (24, 1, 2, 96, 4)
    assert (arch.max_text, arch.max_frames, arch.drop_path, arch.end, arch.answer) == (9, 2, 0.2, 8, 9)


@pytest.mark.parametrize(("width", "heads"), [(24, 5), (30, 3), (18, 2)])
def test_a_width_that_cannot_be_split_is_refused(width: int, heads: int) -> None:
    with pytest.raises(UserError, match=f"model.width {width} must be a multiple of 4 and of model.heads {heads}"):
        architecture(ModelConfig(width=width, heads=heads), MoEConfig(), tasks=1, vocabulary=10, end=8, answer=9)


def made(seed: int = 0, **fields: object) -> Generalist:
    return build(tiny_architecture(width=64, ffn=128, heads=4, **fields), TEMPERATURES, torch_stream(seed))


def test_the_stream_decides_all_weights() -> None:
    torch.manual_seed(1)
    first = made().state_dict()
    torch.manual_seed(2)
    again, other = made().state_dict(), made(1).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    drawn = {name for name, value in first.items() if not torch.equal(value, other[name])}
    assert {
        name for name in first if name.endswith(("qkv.weight", "out.weight", "linear.weight", "words.words"))
    } <= drawn


def test_first_weights_are_those_of_the_original() -> None:
    """OFFICIAL.md, section 10: Xavier-uniform, packed qkv as three matrices, biases 0, tables N(0, 0.02), norms 1/0."""
    state = made().state_dict()
    for name, value in state.items():
        if name.endswith("norm.weight") or "norm1.weight" in name or "norm2.weight" in name:
            assert bool((value == 1).all()), name
        elif name.endswith("bias"):
            assert not value.any(), name
        elif name.endswith(("scale1", "scale2")):
            assert bool((value == tiny_architecture().layer_scale).all()), name
        elif name.startswith("tokenizer.words"):
            assert float(value.std()) == pytest.approx(0.02, rel=0.25), name
        elif value.ndim == 2 and "spatial" not in name and "temporal" not in name:
            rows = value.shape[0] // 3 if "qkv" in name else value.shape[0]
            bound = math.sqrt(6 / (rows + value.shape[1]))
            assert 0.95 * bound < float(value.abs().max()) <= bound, name
            assert float(value.std()) == pytest.approx(bound / 3**0.5, rel=0.05), name
    assert torch.equal(state["tokenizer.patches.temporal"], sincos_1d(torch.arange(4), 64))


def test_convolutions_and_embeddings_of_codes_begin_normal_each_by_its_inputs() -> None:
    fields = {"stem": "conv", "patch": 8, "moe": moe_of("modality")}
    state, again, other = (made(seed, **fields).state_dict() for seed in (0, 0, 1))
    deviations = {name: math.sqrt(2 / value[0].numel()) for name, value in state.items() if value.ndim == 4}
    assert len(deviations) == 3
    deviations |= {name: 1.0 for name in state if name.endswith(".table")}
    assert len(deviations) > 3
    for name, deviation in deviations.items():
        assert float(state[name].std()) == pytest.approx(deviation, rel=0.2), name
        assert torch.equal(state[name], again[name]), name
        assert not torch.equal(state[name], other[name]), name


def test_a_table_of_positions_is_part_of_the_model_only_where_it_is_asked_for() -> None:
    assert not any("spatial" in name for name in made().state_dict())
    table = dict(made(spatial="table", table_grid=3).named_parameters())["tokenizer.patches.spatial.table"]
    assert table.shape == (9, 64)
    assert not table.requires_grad
