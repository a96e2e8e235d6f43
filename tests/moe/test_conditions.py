"""What each condition looks at, and a condition of one's own."""

import re
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from tests.markdown import ROOT
from tests.tiny import tiny_batch, tiny_candidates, tiny_model, tiny_task
from uniperceiver.config import MoEConfig
from uniperceiver.errors import UserError
from uniperceiver.model.model import Generalist
from uniperceiver.moe.conditions import (
    CONDITIONS,
    Code,
    OfSegment,
    OfValues,
    condition_of,
    context,
    paper_bits,
    release_bits,
    token,
)
from uniperceiver.moe.settings import KINDS, MoE
from uniperceiver.records import Decision, Facts, Segment
from uniperceiver.runs.architecture import experts
from uniperceiver.tasks.catalogue import CATALOGUE

SETTINGS = MoE(condition="attribute", tasks=3)


def code(name: str, segment: Segment, settings: MoE = SETTINGS) -> Code:
    condition = condition_of(name)
    assert isinstance(condition, OfSegment)
    return condition.code(segment, settings)


def every_segment(index: int | None = 1) -> Iterator[Segment]:
    for task in (task for task in CATALOGUE.values() if not task.hears):
        yield from task.segments(index)


def test_modality_tells_what_is_seen_from_what_is_read() -> None:
    for segment in every_segment():
        assert code("modality", segment) == ((1.0, 0.0) if segment.kind == "visual" else (0.0, 1.0))
    image, video = (CATALOGUE[f"{each}_captioning"].segments() for each in ("image", "video"))
    assert [code("modality", each) for each in image] == [code("modality", each) for each in video]
    assert [code("modality", each) for each in image] == [(1.0, 0.0), (0.0, 1.0), (0.0, 1.0)]


@pytest.mark.parametrize("name", ["task", "task_specific"])
def test_task_is_the_number_of_the_task_on_inputs_and_candidates_alike(name: str) -> None:
    for index, expected in enumerate([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]):
        assert {code(name, segment) for segment in every_segment(index)} == {expected}
    for segment in every_segment(None):
        with pytest.raises(UserError, match=r"^routing by task needs one of the 3 tasks .*; name it with task=$"):
            code(name, segment)


def test_attribute_is_the_layout_that_the_settings_name() -> None:
    for segment in every_segment(None):
        assert code("attribute", segment) == tuple(map(float, paper_bits(segment)))
        release = MoE(condition="attribute", layout="release")
        assert code("attribute", segment, release) == tuple(map(float, release_bits(segment)))


def test_kinds_of_tokens_beside_the_usual_ones_have_places_of_their_own_behind_them() -> None:
    kinds, facts = (*KINDS, "sound", "touch"), Facts(side="input", inputs=("touch", "text"), targets=("sound",))
    for kind, of_sound, of_touch, place in (("touch", (0, 1, 0), (1, 0, 1), 3), ("sound", (0, 1, 1), (1, 0, 0), 2)):
        segment = Segment(start=0, stop=2, kind=kind, causal=False, facts=facts)
        behind = code("attribute", segment, MoE(condition="attribute", kinds=kinds))
        assert behind == (*map(float, paper_bits(segment)), *of_sound, *of_touch)
        one_hot = code("modality", segment, MoE(condition="modality", kinds=kinds))
        assert one_hot == tuple(float(index == place) for index in range(4))


def test_codes_have_one_width_and_only_numbers_of_tasks_change_it() -> None:
    for name, condition in CONDITIONS.items():
        if isinstance(condition, OfSegment):
            assert {len(code(name, segment)) for segment in every_segment()} == {condition.width(SETTINGS)}, name
    widths = {name: CONDITIONS[name].width(SETTINGS) for name in ("modality", "task", "attribute")}  # type: ignore[union-attr]
    assert widths == {"modality": 2, "task": 3, "attribute": 8}


def test_token_and_context_look_at_values() -> None:
    x_BND, pooled_BD = torch.randn(2, 3, 4), torch.randn(2, 4)
    assert token(x_BND, None) is x_BND
    r_BNC = context(x_BND, pooled_BD)
    assert torch.equal(r_BNC[..., :4], x_BND)
    assert all(torch.equal(r_BNC[:, place, 4:], pooled_BD) for place in range(3))


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("atribute", "did you mean 'attribute'?"),
        ("tokens", "did you mean 'token'?"),
        ("Shared", "did you mean 'shared'?"),
        ("task-specific", "did you mean 'task_specific'?"),
        ("xyz", "choose one of attribute, context, expert_choice, modality, shared, task, task_specific, token"),
    ],
)
def test_the_nearest_condition_is_offered(name: str, mend: str) -> None:
    with pytest.raises(UserError) as caught:
        condition_of(name)
    assert str(caught.value) == f"moe.condition {name!r} is unknown; {mend}"


def side(segment: Segment, settings: MoE) -> Code:
    return (float(segment.facts.side == "input"), float(segment.facts.side == "candidate"))


def signs(x_BND: Tensor, pooled_BD: Tensor | None) -> Tensor:
    return x_BND[..., :5].sign()


def decisions(model: Generalist, name: str) -> list[list[Decision]]:
    """Of a task's inputs and of its candidates."""
    task, batch = tiny_task(name), tiny_batch(name)
    sequences = (batch.inputs, tiny_candidates(task, batch).sequences)
    return [list(model.encode(each).decisions) for each in sequences]


@torch.no_grad()
def test_a_condition_of_ones_own_without_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONDITIONS, "side", OfSegment(code=side))
    model = tiny_model(moe=experts(MoEConfig(condition="side", experts=5), 2, 1))
    of_inputs, of_candidates = decisions(model, "image_captioning")
    assert len(of_inputs) == len(of_candidates) == 4
    for one, other in zip(of_inputs, of_candidates, strict=True):
        assert one.group_S == (0, 0)  # picture and words are one row
        assert other.group_S == (0,)
        assert not torch.equal(one.probability_TE, other.probability_TE)
    again = decisions(model, "masked_language_modelling")
    assert all(torch.equal(a.weight_TE, b.weight_TE) for a, b in zip(again[0], of_inputs, strict=True))


@torch.no_grad()
def test_a_condition_of_ones_own_with_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONDITIONS, "signs", OfValues(represent=signs))
    model = tiny_model(moe=experts(MoEConfig(condition="signs", experts=5), 2, 1))
    (first, *_), _ = decisions(model, "image_captioning")
    assert first.segment_T is not None
    chosen_VE = first.chosen_TE[first.segment_T >= 0]
    assert bool((chosen_VE.sum(dim=1) == 2).all())
    assert len(chosen_VE.unique(dim=0)) > 1


QUESTIONS = ("by_token", "gated", "needs_task", "experts_choose")


def test_conditions_answer_for_themselves() -> None:
    answers = {
        name: {question for question in QUESTIONS if getattr(condition, question)}
        for name, condition in CONDITIONS.items()
    }
    assert answers == {
        "token": {"by_token", "gated"},
        "context": {"by_token", "gated"},
        "expert_choice": {"by_token", "gated", "experts_choose"},
        "modality": {"gated"},
        "task": {"gated", "needs_task"},
        "attribute": {"gated"},
        "task_specific": {"needs_task"},
    }


@pytest.mark.parametrize("capacity", [None, 1.0])
def test_what_experts_depend_on_beside_the_token(capacity: float | None) -> None:
    neighbours, keys = {}, {}
    for name, condition in CONDITIONS.items():
        settings = MoE(condition=name, evaluation_capacity=capacity)
        neighbours[name], keys[name] = condition.looks_at_neighbours(settings), condition.not_causal(settings)
    whole = {"context", "expert_choice"} if capacity is None else {"token", "context", "expert_choice"}
    assert {name for name, looks in neighbours.items() if looks} == whole
    assert keys.pop("expert_choice") == "moe.condition"
    assert set(keys.values()) == {None if capacity is None else "moe.capacity"}


def test_nobody_asks_which_kind_a_condition_is() -> None:
    asking = re.compile(r"isinstance\([^)]*\b(OfSegment|OfValues)\b")
    files = [path for path in (ROOT / "uniperceiver").rglob("*.py") if asking.search(path.read_text(encoding="utf-8"))]
    assert files == []


@pytest.mark.parametrize("layout", [paper_bits, release_bits])
def test_detection_has_the_rows_of_classification(layout: Callable[[Segment], tuple[int, ...]]) -> None:
    """Proposals are visual tokens of the input and class names are texts, so no row of weights is added (v2)."""
    classification = [layout(segment) for segment in CATALOGUE["image_classification"].segments()]
    for name in ("object_detection", "instance_segmentation"):
        assert [layout(segment) for segment in CATALOGUE[name].segments()] == classification
