"""A converted checkpoint: every tensor is accounted for, and what is not whole is refused.

That converted models compute what the original computes is the matter of `python -m benchmarks.golden` and its tests.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.model.official.made_up import GIVEN, IDS, LAYERS, State, original, without
from tests.shared import OFFICIAL
from uniperceiver.errors import UserError
from uniperceiver.model.official.convert import Converted, NotWhole, convert_state
from uniperceiver.model.official.variant import Choices
from uniperceiver.tasks.task import TEMPERATURES

KEYS = sorted(OFFICIAL.glob("keys_*.json"))
needs_keys = pytest.mark.skipif(not KEYS, reason=f"no lists of names of the full-size models at {OFFICIAL}")
VARIANTS = {
    "dense": original(),
    "experts": original(moe=True),
    "prompts": original(prompts="shared", classes=3),
    "own prompts": original(prompts="own", classes=3),
    "label prompts": original(prompts="shared", labels=3),
    "experts and prompts": original(moe=True, prompts="shared", classes=3),
}


def converted(state: State, given: Choices = GIVEN) -> Converted:
    return convert_state(state, given, **IDS, where="a file")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_tensor_is_used_or_has_a_reason(name: str) -> None:
    state = VARIANTS[name]
    done = converted(state)
    assert [line.original for line in done.lines] == list(state)
    assert all(line.shape == tuple(state[line.original].shape) for line in done.lines)
    assert all((line.target is None) == bool(line.reason) for line in done.lines)
    assert sorted(line.target for line in done.lines if line.target) == sorted(done.model.state_dict())
    gates = sum("gate" in line.original for line in done.lines if line.reason)
    assert gates == (2 * 2 * 5 if "experts" in name else 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype: torch.dtype) -> None:
    state = {name: each.to(dtype) for name, each in VARIANTS["experts"].items()}
    done = converted(state)
    assert {each.dtype for each in done.model.state_dict().values()} == {torch.float32}
    assert torch.equal(done.model.head.linear.weight, state["loss_prepare.proj.weight"].float())
    assert state["loss_prepare.proj.weight"].dtype == dtype


def test_the_table_is_not_copied() -> None:
    """The model is never in memory twice: what is float32 already is taken as it is."""
    state = VARIANTS["dense"]
    ours = converted(state).model.tokenizer.words.words
    assert ours.data_ptr() == state["token_embed.embeddings.weight"].data_ptr()


def test_the_type_vector_is_added_once_where_it_is_asked_for() -> None:
    state = VARIANTS["dense"]
    bias, vector = state["video_embed.embeddings.bias"].clone(), state["video_embed.embeddings_type.weight"][0]
    for given in ("auto", "folded", "add"):
        done, is_added = converted(state, replace(GIVEN, type_vector=given)), given == "add"
        assert torch.equal(done.model.tokenizer.patches.project.bias, bias + vector if is_added else bias)
        (line,) = [each for each in done.lines if each.original == "video_embed.embeddings_type.weight"]
        assert line.reason == ("added to the patch bias" if is_added else "in the patch bias already")
        assert done.type_vector == ("added" if is_added else "folded")
    assert torch.equal(state["video_embed.embeddings.bias"], bias)


def test_without_a_type_vector_there_is_nothing_to_add() -> None:
    state = without(VARIANTS["dense"], "embeddings_type")
    assert converted(state).type_vector == "none"
    with pytest.raises(UserError, match=r"a file: has no video_embed\.embeddings_type\.weight to add; leave out"):
        converted(state, replace(GIVEN, type_vector="add"))


def test_a_second_copy_with_other_values_is_listed_as_such() -> None:
    state = {**VARIANTS["dense"], "video_embed.embeddings_norm.bias": torch.ones(16)}
    reasons = {line.original: line.reason for line in converted(state).lines}
    assert reasons["video_embed.embeddings_norm.bias"].startswith("its values are not those of token_embed.embeddings_")
    assert reasons["video_embed.embeddings_norm.weight"] == "the same tensor as token_embed.embeddings_norm"


LAST = f"fused_encoder.layers.{LAYERS - 1}"
SPOILED: dict[str, tuple[Callable[[State], State], str]] = {
    "unknown": (lambda state: {**state, "backbone.conv.weight": torch.ones(2)}, r"1 tensors \(backbone\.conv"),
    "no expert": (lambda state: without(state, "linear2.experts.deepspeed_experts.1."), "nothing for 4 tensors"),
    "one expert less": (lambda state: without(state, ".deepspeed_experts.2."), r"gates.*shape \(3, 16\), .*needs \(2"),
    "gap of experts": (lambda state: without(state, ".deepspeed_experts.1."), "expert 1 is missing"),
    "experts elsewhere": (lambda state: without(state, ".deepspeed_experts."), "has gates but no experts, which"),
    "no layer": (lambda state: without(state, "layers.1."), "layer 1 is missing: is it one of several files"),
    "half a layer": (lambda state: without(state, f"{LAST}.linear2"), "nothing for .* of our model"),
    "no head": (lambda state: without(state, "loss_prepare.proj"), "nothing for 2 tensors .*head.linear.bias"),
    "no words": (lambda state: without(state, "token_embed.embeddings.weight"), "'token_embed.embeddings.weight' is"),
    "no layers": (lambda state: without(state, "fused_encoder"), "has no layers"),
    "another shape": (
        lambda state: {**state, "loss_prepare.ln_post.bias": torch.ones(8)},
        r"'head\.norm\.bias' has the shape \(8,\), a model of this size needs \(16,\)",
    ),
    "another rank": (lambda state: {**state, "token_embed.embeddings.weight": torch.ones(8)}, "expected 2 dimensions"),
    "whole numbers": (lambda state: {**state, "loss_prepare.ln_post.bias": torch.ones(16).long()}, "holds torch.int64"),
    "no square": (
        lambda state: {**state, "video_embed.embeddings_st_pos.spatial_pos_embed.weight": torch.ones(5, 16)},
        "5 spatial positions are no square",
    ),
    "another type vector": (
        lambda state: {**state, "video_embed.embeddings_type.weight": torch.ones(1, 8)},
        r"a file: 'video_embed\.embeddings_type\.weight' does not fit 'video_embed\.embeddings\.bias'",
    ),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_checkpoint_that_is_not_whole_is_refused(what: str) -> None:
    spoil, message = SPOILED[what]
    with pytest.raises(UserError, match=message) as caught:
        converted(spoil(VARIANTS["experts"]), replace(GIVEN, type_vector="add"))
    assert str(caught.value).startswith("a file: ")
    assert "\n" not in str(caught.value)


def test_the_refusal_has_the_lines_of_all_tensors() -> None:
    state = {**VARIANTS["dense"], "backbone.weight": torch.ones(2)}
    with pytest.raises(NotWhole) as caught:
        converted(state)
    assert [(line.original, line.target, line.reason) for line in caught.value.lines][-1] == (
        "backbone.weight",
        None,
        "",
    )
    assert len(caught.value.lines) == len(state)


@needs_keys
@pytest.mark.parametrize("path", KEYS, ids=lambda path: path.stem)
def test_the_names_and_shapes_of_every_full_size_model(path: Path) -> None:
    listed = json.loads(path.read_text(encoding="utf-8"))
    state = {name: torch.zeros(()).expand(shape) for name, shape in listed["keys"].items()}
    done = convert_state(state, Choices(), end=49407, answer=49410, temperatures=TEMPERATURES, where=path.name)
    assert len(done.lines) == listed["n_keys"]
    assert all((line.target is None) == bool(line.reason) for line in done.lines)
    unused = sum(state[line.original].numel() for line in done.lines if line.target is None)
    twins = sum(state[line.original].numel() for line in done.lines if "the same tensor" in line.reason)
    half = done.arch.width  # row 1 of the text's type table, which nothing ever reads
    assert sum(each.numel() for each in done.model.parameters()) + unused + half - twins == listed["n_params"]
    assert done.arch.table_grid * done.arch.patch == listed["img_input_size"]
