"""A task's declaration: contradictions are refused, and what routing sees is derived from it."""

from typing import Any

import pytest

from uniperceiver.records import Facts
from uniperceiver.tasks.task import TEMPERATURES, Task


def task(**fields: Any) -> Task:
    """An image classification, unless told otherwise."""
    return Task(**{"name": "mine", "inputs": ("image",), "candidates": "labels", "temperature": "img_cls", **fields})


READ_IN_TEXT = {"inputs": ("text",), "read_at": "masked"}
QUESTION = {"inputs": ("image", "text"), "read_at": "masked"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inputs": ("picture",)}, "unknown modality 'picture'"),
        ({"target": "smell"}, "unknown modality 'smell'"),
        ({"inputs": ()}, "inputs"),
        ({"inputs": ("image", "image")}, "inputs"),
        ({"inputs": ("text", "image")}, "a text behind the others"),
        ({"inputs": ("text", "text")}, "inputs"),
        ({"target": "image"}, "labels and words are texts"),
        ({"temperature": "imgcls"}, "unknown temperature 'imgcls'"),
        ({"candidates": "label"}, "not 'label'"),
        ({"read_at": "sumary"}, "unknown read_at 'sumary'"),
        ({"read_at": "masked"}, "needs a text among the inputs"),
        ({"read_at": "next", "candidates": "vocabulary"}, "needs a text among the inputs"),
        ({"candidates": "vocabulary"}, "read_at='summary' goes with candidates labels or tags or in_batch"),
        ({**READ_IN_TEXT, "candidates": "in_batch"}, "read_at='masked' goes with"),
        ({**QUESTION, "read_at": "next"}, "read_at='next' goes with candidates vocabulary, not 'labels'"),
        ({"candidates": "in_batch", "labels": (("a",), ("b",))}, "labels go with"),
        ({"labels": ("red", "blue")}, "labels must hold"),  # each letter would be a text
        ({"labels": (("red",), ())}, "labels must hold"),
        ({"template": "{text} ."}, "this task has none"),
        ({**READ_IN_TEXT, "candidates": "vocabulary", "template": "{text}"}, "this task has none"),
        ({**QUESTION, "read_at": "next", "candidates": "vocabulary", "template": "{text}"}, "this task has none"),
        ({**READ_IN_TEXT, "template": "{text} it is"}, "must hold {answer} once"),
        ({**READ_IN_TEXT, "template": "it is {answer}"}, "must hold {text} once"),
        ({**READ_IN_TEXT, "template": "{text} {answer} {answer}"}, "must hold {answer} once"),
        ({**READ_IN_TEXT, "template": "{text} {text} {answer}"}, "must hold {text} once"),
        ({"inputs": ("text",), "template": "{text} {answer}"}, "must hold {answer} nowhere"),
    ],
)
def test_contradictions_are_refused_in_one_line_that_names_the_task(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="task 'mine'") as caught:
        task(**fields)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"labels": (("red", "a red one"), ("blue",))},
        {"inputs": ("video", "text"), "candidates": "in_batch"},
        {"inputs": ("text",), "candidates": "in_batch", "target": "image"},
        {**QUESTION, "template": "question: {text} answer: {answer}", "labels": (("yes",), ("no",))},
        {"inputs": ("text",), "template": "about {text}"},
        {"inputs": ("text",), "candidates": "vocabulary", "read_at": "next"},
    ],
)
def test_what_makes_sense_is_accepted(fields: dict[str, Any]) -> None:
    assert task(**fields) == task(**fields)
    assert hash(task(**fields)) == hash(task(**fields))


@pytest.mark.parametrize(
    ("inputs", "kinds", "visual"),
    [
        (("image",), ("visual",), "image"),
        (("video",), ("visual",), "video"),
        (("text",), ("text",), None),
        (("image", "text"), ("visual", "text"), "image"),
        (("video", "text"), ("visual", "text"), "video"),
    ],
)
def test_facts_are_derived(inputs: tuple[str, ...], kinds: tuple[str, ...], visual: str | None) -> None:
    mine = task(inputs=inputs)
    assert mine.visual == visual
    for side in ("input", "candidate"):
        assert mine.facts(side) == Facts(side=side, inputs=kinds, targets=("text",), task=None)
        assert mine.facts(side, 4) == Facts(side=side, inputs=kinds, targets=("text",), task=4)


def test_facts_know_a_visual_target() -> None:
    facts = task(inputs=("text",), candidates="in_batch", target="video").facts("candidate")
    assert facts.targets == ("visual",)


def test_there_are_the_eleven_temperatures_of_the_original() -> None:
    assert len(set(TEMPERATURES)) == len(TEMPERATURES) == 11
