"""The segments that a task is said to consist of are those that the tokenizer makes of its sequences."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.parts import changed
from tests.moe_cases import VQA
from tests.tiny import hearing, tiny_batch, tiny_codec, tiny_model, tiny_prepared, tiny_task
from uniperceiver.data.batch import collate
from uniperceiver.records import Part, Segment, Sequences
from uniperceiver.tasks.candidates import label_candidates, sampled_candidates, vocabulary_candidates
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.decode import prefix_with_query
from uniperceiver.tasks.task import Task

INDEX = 5  # of the task in its run
WRITING = Task(name="writing", inputs=("text",), candidates="vocabulary", read_at="next", temperature="caption")
READING = Task(name="reading", inputs=("text",), candidates="labels", temperature="text_mlm", labels=(("a",), ("b",)))
ASKING = replace(VQA, name="asking", read_at="masked", template="{text} {answer}")
TASKS = [*map(tiny_task, CATALOGUE), VQA, ASKING, WRITING, READING]


def known(segments: Iterable[Segment]) -> set[tuple[Any, ...]]:
    """What a condition may look at: all of the segments but their lengths."""
    return {(each.kind, each.causal, each.facts, each.start == 0) for each in segments}


def inputs_of(task: Task) -> Sequences:
    """A batch of inputs; scenes have no questions, and no texts to be continued."""
    facts = task.facts("input", INDEX)
    if task in (VQA, ASKING):
        seen = tiny_batch("image_classification").inputs
        return changed(seen, facts=facts, ids_BN=torch.ones(seen.size, 4, dtype=torch.int64))
    if task is WRITING:
        return changed(tiny_batch("image_captioning").inputs, facts=facts, pixels_BFCHW=None)
    return collate(task, tiny_prepared(task), tiny_codec(), INDEX).inputs


def candidates_of(task: Task) -> list[Sequences]:
    """Every form in which the task's candidates are encoded."""
    codec, facts = tiny_codec(), task.facts("candidate", INDEX)
    if task.candidates == "labels":
        return [label_candidates(task, codec, None, INDEX).sequences]
    if task.candidates == "in_batch":
        texts = collate(task, tiny_prepared(task), codec, INDEX).candidates
        assert texts is not None
        return [texts]
    drawn = sampled_candidates(torch.tensor([3, -1]), torch.ones(9), 4, torch.Generator(), facts, 0)
    return [vocabulary_candidates(task, codec, INDEX).sequences, drawn.sequences]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_inputs_and_candidates(task: Task) -> None:
    tokenizer, said = tiny_model(**hearing(task)).tokenizer, task.segments(INDEX)
    assert known(tokenizer(inputs_of(task)).segments) == known(each for each in said if each.facts.side == "input")
    for sequences in candidates_of(task):
        found = known(tokenizer(sequences).segments)
        assert found == known(each for each in said if each.facts.side == "candidate")
    assert all(each.stop == each.start + 1 for each in said)


@pytest.mark.parametrize("task", [each for each in TASKS if each.read_at == "next"], ids=lambda task: task.name)
def test_generation_needs_nothing_else(task: Task) -> None:
    model, seen = tiny_model(**hearing(task)).eval(), set[tuple[Any, ...]]()

    def look(module: nn.Module, given: tuple[Any, ...]) -> None:
        # A new word and its query are a sequence of their own.
        seen.update((kind, causal, facts) for kind, causal, facts, _ in known(given[0].segments))

    model.encoder.register_forward_pre_hook(look)
    inputs = inputs_of(task)
    nothing = Part(modality="text", values=torch.ones(3, 0, dtype=torch.int64))
    prefix = replace(inputs, parts=inputs.media or (nothing,))
    with torch.no_grad():
        cache, _ = model.begin(prefix_with_query(prefix, tiny_codec().answer), words=3)
        model.extend(cache, torch.tensor([4, 5, 6]), 1)
    said = [each for each in task.segments(INDEX) if each.facts.side == "input"]
    assert seen == {(each.kind, each.causal, each.facts) for each in said}


def test_pictures_as_candidates() -> None:
    task = replace(CATALOGUE["image_text_retrieval"], inputs=("text",), target="image")
    assert [(each.kind, each.facts.side) for each in task.segments()] == [("text", "input"), ("visual", "candidate")]
    assert all(each.facts.task is None and not each.causal for each in task.segments())
