"""Which model a checkpoint is: read off names, shapes and the stored positions; what is given; what cannot be."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.model.official.made_up import (
    ANSWER,
    END,
    EXPERT_LAYERS,
    EXPERTS,
    FFN,
    GIVEN,
    GRID,
    HEADS,
    IDS,
    LAYERS,
    PATCH,
    PROMPTS,
    WIDTH,
    WORDS,
    State,
    original,
    without,
)
from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture, PromptShape
from uniperceiver.model.official.convert import convert_state
from uniperceiver.model.official.variant import Choices, architecture_of
from uniperceiver.moe.settings import MoE

TABLE = "video_embed.embeddings_st_pos.spatial_pos_embed.weight"


def recognised(state: State, given: Choices = GIVEN) -> Architecture:
    return architecture_of(state, given, end=END, answer=ANSWER, where="a file")


def refused(state: State, given: Choices) -> str:
    with pytest.raises(UserError) as caught:
        recognised(state, given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def sincos(grid: int, scale: float) -> Tensor:
    """The original's table, written plainly: [sin(row), cos(row), sin(column), cos(column)]."""
    omega = 10000.0 ** (-torch.arange(WIDTH // 4).double() / (WIDTH // 4))
    rows = [
        torch.cat([f(place * scale * omega) for place in (row, column) for f in (torch.sin, torch.cos)])
        for row in range(grid)
        for column in range(grid)
    ]
    return torch.stack(rows).float()


def test_a_dense_model() -> None:
    arch = recognised(original())
    found = (arch.width, arch.layers, arch.heads, arch.ffn, arch.patch, arch.patch_frames, arch.vocabulary)
    assert found == (WIDTH, LAYERS, HEADS, FFN, PATCH, 1, WORDS)
    assert (arch.end, arch.answer, arch.max_text, arch.max_frames, arch.table_grid) == (END, ANSWER, 64, 8, GRID)
    assert (arch.moe, arch.prompts) == (None, None)


def test_what_the_original_does_otherwise_is_kept() -> None:
    arch = recognised(original())
    assert arch.random_still_row
    assert arch.frame_offset
    assert arch.max_scale == 100.0


def test_a_model_with_experts() -> None:
    expected = MoE(
        condition="attribute",
        layout="release",
        experts=EXPERTS,
        k=2,
        attention_layers=EXPERT_LAYERS,
        ffn_layers=EXPERT_LAYERS,
    )
    assert recognised(original(moe=True)).moe == expected
    own = recognised(original(moe=True), replace(GIVEN, ffn_gates="own")).moe
    assert own == replace(expected, ffn_gates=2)


@pytest.mark.parametrize(("parts", "attention", "ffn"), [("FFN", (), (0, 2)), ("SA", (0, 2), ())])
def test_experts_in_one_part_only(parts: str, attention: tuple[int, ...], ffn: tuple[int, ...]) -> None:
    state = original(moe=True, parts=parts)
    moe = recognised(state).moe
    assert moe is not None
    assert (moe.attention_layers, moe.ffn_layers) == (attention, ffn)
    done = convert_state(state, GIVEN, **IDS, where="a file")  # type: ignore[arg-type]
    assert all((line.target is None) == bool(line.reason) for line in done.lines)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"prompts": "shared"}, PromptShape(vectors=PROMPTS)),
        ({"prompts": "own"}, PromptShape(vectors=PROMPTS, candidates=PROMPTS + 1)),
        ({"prompts": "shared", "classes": 7}, PromptShape(vectors=PROMPTS, classes=7)),
        ({"prompts": "shared", "labels": 5, "moe": True}, PromptShape(vectors=PROMPTS, labels=5)),
    ],
)
def test_a_prompt_tuned_model(fields: dict[str, object], expected: PromptShape) -> None:
    assert recognised(original(**fields)).prompts == expected  # type: ignore[arg-type]


def test_heads_are_64_wide_unless_they_are_given() -> None:
    state = {
        name: torch.zeros(()).expand([128 if side == WIDTH else side for side in each.shape])
        for name, each in original().items()
    }
    assert recognised(state, Choices()).heads == 2
    assert recognised(state, Choices(heads=8)).heads == 8
    assert "--heads 3: does not divide the width 128" in refused(state, Choices(heads=3))
    assert "--heads 0: is no number of attention heads" in refused(state, Choices(heads=0))
    assert "width 16 is of no published model; say how many attention heads" in refused(original(), Choices())


def test_a_published_width_has_its_number_of_layers() -> None:
    state = {
        name: torch.zeros(()).expand([192 if side == WIDTH else side for side in each.shape])
        for name, each in original().items()
    }
    line = refused(state, Choices())
    assert line.startswith("a file: has 3 layers, every published model of width 192 has 12: is it one of several")
    assert recognised(state, Choices(layers=3)).layers == 3
    assert "has 3 layers, --layers 4: is it one" in refused(original(), replace(GIVEN, layers=4))


@pytest.mark.parametrize(
    ("grid", "scale", "span"),
    [(10, 1.0, 10.0), (14, 160 / 224, 10.0), (24, 160 / 384, 10.0), (14, 1.0, 14.0), (4, 1.0, 4.0)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_positions_are_computed_where_the_table_is_just_that(
    grid: int, scale: float, span: float, dtype: torch.dtype
) -> None:
    state = {**original(), TABLE: sincos(grid, scale).to(dtype)}
    arch = recognised(state)
    assert (arch.spatial, arch.reference_grid, arch.table_grid) == ("sincos", span, grid)
    kept = recognised(state, replace(GIVEN, positions="table"))
    assert (kept.spatial, kept.table_grid) == ("table", grid)


def test_a_learned_table_is_kept_unless_it_is_told_otherwise() -> None:
    assert recognised(original()).spatial == "table"
    computed = recognised(original(), replace(GIVEN, positions="sincos"))
    assert (computed.spatial, computed.reference_grid) == ("sincos", 10.0)


def test_the_reference_grid_may_be_given() -> None:
    state = {**original(), TABLE: sincos(4, 0.5)}
    assert recognised(state).spatial == "table"
    given = recognised(state, replace(GIVEN, reference_grid=2.0))
    assert (given.spatial, given.reference_grid) == ("sincos", 2.0)
    forced = recognised(state, replace(GIVEN, reference_grid=5.0, positions="sincos"))
    assert (forced.spatial, forced.reference_grid) == ("sincos", 5.0)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        assert "--reference-grid" in refused(state, replace(GIVEN, reference_grid=wrong))
    both = replace(GIVEN, reference_grid=2.0, positions="table")
    assert "has no effect with --positions table" in refused(state, both)


@pytest.mark.parametrize("moe", [False, True])
def test_the_papers_layout_is_refused(moe: bool) -> None:
    line = refused(original(moe=moe), replace(GIVEN, layout="paper"))
    assert line.startswith("--layout paper: the original release numbers the attribute bits in its own way")


def test_gates_without_experts() -> None:
    dense = refused(original(), replace(GIVEN, ffn_gates="own"))
    assert "has no experts, so no gates; leave out --ffn-gates own" in dense
    torn = refused(without(original(moe=True), ".experts."), GIVEN)
    assert "has gates but no experts, which lie in files of their own" in torn
