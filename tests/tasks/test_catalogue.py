"""The catalogue: every task of the library, each of them one record that can be asked."""

import pytest

from uniperceiver.tasks.catalogue import CATALOGUE

# Temperatures: OFFICIAL.md, section 5.
EXPECTED = {
    "image_classification": (("image",), "labels", "summary", "img_cls"),
    "video_classification": (("video",), "labels", "summary", "video_cls"),
    "text_classification": (("text",), "labels", "masked", "text_mlm"),
    "masked_language_modelling": (("text",), "vocabulary", "masked", "text_mlm"),
    "image_captioning": (("image", "text"), "vocabulary", "next", "caption"),
    "video_captioning": (("video", "text"), "vocabulary", "next", "caption"),
    "object_detection": (("image",), "labels", "proposals", "img_cls"),
    "instance_segmentation": (("image",), "labels", "proposals", "img_cls"),
    "image_text_retrieval": (("image",), "in_batch", "summary", "retrieve"),
    "video_text_retrieval": (("video",), "in_batch", "summary", "retrieve"),
}


def test_names_are_unique_and_those_of_the_tasks() -> None:
    assert set(CATALOGUE) >= set(EXPECTED)
    assert all(name == task.name for name, task in CATALOGUE.items())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_task_is_declared_as_the_original_asks_it(name: str) -> None:
    task = CATALOGUE[name]
    assert (task.inputs, task.candidates, task.read_at, task.temperature) == EXPECTED[name]
    assert task.labels == ()
    assert (task.template is not None) == (name == "text_classification")
