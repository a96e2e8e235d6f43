"""Candidates with experts: encoded and remembered apart where routing tells them apart, alike in chunks and padded.

Shape suffixes: K candidates, M tokens of the longest, D width.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.parts import flat
from tests.moe_cases import BY_ROW, BY_VALUES, ROUTINGS, TASKS, moe_model, moe_of
from tests.tiny import tiny_architecture, tiny_batch, tiny_candidates, tiny_codec, tiny_source, tiny_task
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.errors import UserError
from uniperceiver.evaluation.answers.kind import scores
from uniperceiver.evaluation.answers.retrieval import gallery
from uniperceiver.evaluation.split import Settings, Split
from uniperceiver.records import Facts
from uniperceiver.serving.predictor import UniPerceiver
from uniperceiver.serving.saved import KnownTask, SavedModel
from uniperceiver.tasks.ask import answer
from uniperceiver.tasks.candidates import (
    Candidates,
    label_candidates,
    represent_candidates,
    represent_in_chunks,
    vocabulary_candidates,
)
from uniperceiver.tasks.sequences import text_sequences
from uniperceiver.tasks.task import Task

TEXTS = ("red", "a small blue square", "dot", "something that is green and far away")
LABELS = tuple((text,) for text in TEXTS)
PICTURES = replace(tiny_task("image_classification"), name="pictures", labels=LABELS)
MORE_PICTURES = replace(PICTURES, name="more pictures")
SENTENCES = replace(tiny_task("text_classification"), name="sentences", labels=LABELS)
VIEW = Preprocess(size=32, frames=2, length=60)
# Which of the tasks' candidates a routing tells apart: `sentences` reads another modality, all three are other tasks.
APART = {
    "modality": (False, False),
    "attribute": (False, True),
    "task": (True, True),
    "task_specific": (True, True),
    "token": (False, False),
    "context": (False, False),
    "expert_choice": (False, False),
}


def candidates_of(texts: tuple[str, ...] = TEXTS, facts: Facts | None = None) -> Candidates:
    ids = [tiny_codec().encode(text) for text in texts]
    return Candidates(sequences=text_sequences(ids, facts or PICTURES.facts("candidate", 1), tiny_codec().end))


def predictor(condition: str, **settings: Any) -> UniPerceiver:
    """A saved model with three tasks that have the same texts."""
    tasks = {
        task.name: KnownTask(task=task, index=index, preprocess=VIEW)
        for index, task in enumerate((PICTURES, MORE_PICTURES, SENTENCES))
    }
    arch = tiny_architecture(moe=moe_of(condition, **settings))
    return UniPerceiver(SavedModel(model=moe_model(condition, **settings), arch=arch, codec=tiny_codec(), tasks=tasks))


def facing(model: UniPerceiver, name: str) -> Tensor:
    """The remembered representations of a task's labels."""
    return model._engine.all_candidates(model.saved.tasks[name])


@pytest.mark.parametrize("condition", ROUTINGS)
def test_tasks_with_the_same_texts_have_the_candidates_of_their_own_routing(condition: str) -> None:
    model = predictor(condition)
    for _ in range(2):  # made, then remembered
        found = {name: facing(model, name) for name in model.saved.tasks}
        for known in model.saved.tasks.values():
            plain = represent_candidates(model.model, candidates_of(facts=known.task.facts("candidate", known.index)))
            torch.testing.assert_close(found[known.task.name], plain.detach(), atol=1e-6, rtol=0)
    for name, apart in zip(("more pictures", "sentences"), APART[condition], strict=True):
        assert (float((found[name] - found["pictures"]).abs().max()) > 1e-3) == apart
    assert facing(model, "sentences") is found["sentences"]


@pytest.mark.parametrize("condition", ["attribute", "task", "task_specific"])
def test_texts_are_encoded_as_candidates_of_the_task_that_is_named(condition: str) -> None:
    model = predictor(condition)
    for index, name in enumerate(model.saved.tasks):
        facts = model.saved.tasks[name].task.facts("candidate", index)
        expected = represent_candidates(model.model, candidates_of(facts=facts)).detach()
        torch.testing.assert_close(model.encode_text(TEXTS, task=name), expected, atol=1e-6, rtol=0)
        known = replace(model.saved.tasks[name], task=replace(model.saved.tasks[name].task, labels=()))
        ranked = model._engine.some_texts(known, TEXTS)
        torch.testing.assert_close(ranked, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("condition", ["task", "task_specific"])
def test_a_task_that_was_not_trained_has_no_experts(condition: str) -> None:
    with pytest.raises(UserError, match="one of the 3 tasks"):
        represent_candidates(moe_model(condition), candidates_of(facts=PICTURES.facts("candidate")))
    assert represent_candidates(moe_model("attribute"), candidates_of(facts=PICTURES.facts("candidate"))).shape[0] == 4


def split_of(task: Task, index: int) -> Split:
    source = tiny_source(task, items=6)
    return Split(task=task, index=index, name="val", source=source, preprocess=VIEW, training_texts=lambda: iter(()))


@pytest.mark.parametrize("condition", ["attribute", "task", "task_specific", "token"])
def test_evaluation_asks_with_the_experts_of_its_task(condition: str) -> None:
    """Two tasks in turn, with one model and one memory, have the figures that each has alone."""
    model, codec = moe_model(condition), tiny_codec()
    tasks = [replace(tiny_task("image_classification"), name=name) for name in ("one", "other")]
    settings = Settings(codec=codec, device=torch.device("cpu"), batch=4)
    found = []
    for index, task in enumerate(tasks):
        candidates = label_candidates(task, codec, None, index)
        found.append(torch.cat(scores(model, split_of(task, index), settings, candidates).nll))
        alone = replace(settings, memory={})
        again = scores(moe_model(condition), split_of(task, index), alone, candidates)
        assert torch.equal(found[-1], torch.cat(again.nll))
    assert torch.equal(found[0], found[1]) == (condition in ("attribute", "token"))


@pytest.mark.parametrize("condition", ["attribute", "task_specific", "context"])
def test_a_gallery_is_encoded_with_the_experts_of_its_task(condition: str) -> None:
    model, task = moe_model(condition), tiny_task("image_text_retrieval")
    settings = Settings(codec=tiny_codec(), device=torch.device("cpu"), batch=4)
    found = gallery(model, split_of(task, 2), settings)
    first = candidates_of((found.texts[0],), facts=task.facts("candidate", 2))
    torch.testing.assert_close(found.c_CD[0], represent_candidates(model, first)[0].detach(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("condition", ROUTINGS)
def test_chunks_change_nothing(condition: str, chunk: int) -> None:
    model, padded = moe_model(condition), candidates_of()
    assert flat(padded.sequences).valid_BN is not None
    whole = represent_candidates(model, padded)
    torch.testing.assert_close(represent_in_chunks(model, padded, chunk), whole.detach(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("condition", ["token", "context"])
def test_chunks_change_nothing_where_there_is_a_capacity(condition: str) -> None:
    """Candidates are never dropped, so it is of no account which of them are encoded together."""
    model = moe_model(condition, training_capacity=0.1, evaluation_capacity=0.1)
    whole = represent_candidates(model, candidates_of()).detach()
    torch.testing.assert_close(represent_in_chunks(model, candidates_of(), 2), whole, atol=1e-6, rtol=0)
    free = represent_candidates(moe_model(condition), candidates_of()).detach()
    torch.testing.assert_close(whole, free, atol=1e-6, rtol=0)


@pytest.mark.parametrize("condition", ["attribute", "token"])
def test_the_whole_vocabulary_is_encoded_in_chunks(condition: str) -> None:
    model, words = moe_model(condition), vocabulary_candidates(tiny_task("image_captioning"), tiny_codec(), 0)
    whole = represent_candidates(model, words).detach()
    torch.testing.assert_close(represent_in_chunks(model, words, 100), whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("condition", ROUTINGS)
def test_padded_candidates_are_those_alone(condition: str) -> None:
    model = moe_model(condition)
    together = represent_candidates(model, candidates_of())
    for k, text in enumerate(TEXTS):
        alone = represent_candidates(model, candidates_of((text,)))
        torch.testing.assert_close(together[k], alone[0], atol=1e-6, rtol=0)


def test_the_tables_here_are_complete() -> None:
    assert APART.keys() == set(ROUTINGS) == {*BY_ROW, *BY_VALUES}
    assert TASKS == 3


def test_an_answer_has_the_decisions_on_inputs_and_on_candidates() -> None:
    task, model = tiny_task("image_classification"), moe_model("token")
    batch = tiny_batch(task)
    decisions = answer(model, task, batch, tiny_candidates(task, batch)).decisions
    sides = [decision.segments[0].facts.side for decision in decisions]
    assert set(sides) == {"input", "candidate"}
    assert sides.count("input") == sides.count("candidate")
