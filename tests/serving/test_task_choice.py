"""Which task a call is about, where experts are chosen by task: its own, or the only one of the model that fits."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.small_run import IMAGES, TASKS, small_recipe, train
from tests.tiny import VIEW, tiny_architecture, tiny_codec, tiny_model
from uniperceiver import Task, UniPerceiver, load
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.errors import UserError
from uniperceiver.model.architecture import PromptShape
from uniperceiver.serving.predict.predict import Question, predict
from uniperceiver.serving.saved import KnownTask, SavedModel
from uniperceiver.serving.task_choice import preprocess_for
from uniperceiver.tasks.catalogue import CATALOGUE

NAMES = ("captions", "colours", "relations", "retrieval")
LABELS = ["red", "blue", "a green thing"]
TEXTS = ["a red square is left of a circle", "blue"]
Call = Callable[[UniPerceiver], Any]


def trained_by_task(folder: Path, names: tuple[str, ...], condition: str = "task", **changes: Any) -> UniPerceiver:
    """A model whose tasks differ in what they answer, also after a single step."""
    train(folder, small_recipe(names, steps=1, moe={"condition": condition}, model__layer_scale=1.0, **changes))
    return load(folder)


@pytest.fixture(scope="module", params=["task", "task_specific"])
def by_task(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> UniPerceiver:
    """One task of each kind."""
    return trained_by_task(tmp_path_factory.mktemp("runs") / "run", NAMES, request.param)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> UniPerceiver:
    """Two tasks for most calls, and none that writes."""
    shapes = {**TASKS["colours"], "train": {**IMAGES, "label": "shape"}, "val": None}
    names = ("colours", "relations", "retrieval", "clip_retrieval")
    return trained_by_task(tmp_path_factory.mktemp("runs") / "run", names, tasks__shapes=shapes)


def pictures() -> list[np.ndarray]:
    source = ScenesSource(items=3, pixels=32, split="test")
    return [np.asarray(source.read(index).image) for index in range(3)]


def clips() -> list[np.ndarray]:
    source = ScenesSource(items=2, pixels=32, view="clip", frames=2, split="test")
    return [np.asarray(source.read(index).clip) for index in range(2)]


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("call", "task"),
    [
        (lambda model, **task: model.classify(pictures(), LABELS, **task), "colours"),
        (lambda model, **task: model.classify(pictures(), **task), "colours"),
        (lambda model, **task: model.classify(TEXTS, LABELS, **task), "relations"),
        (lambda model, **task: model.rank(pictures(), TEXTS, **task), "retrieval"),
        (lambda model, **task: model.encode_image(pictures(), **task), "retrieval"),
        (lambda model, **task: model.encode_text(TEXTS, **task), "retrieval"),
    ],
)
def test_a_call_is_about_the_only_task_that_fits(by_task: UniPerceiver, call: Callable[..., Any], task: str) -> None:
    assert torch.equal(call(by_task), call(by_task, task=task))
    assert torch.equal(call(by_task), call(by_task, task=by_task.saved.tasks[task].task))


def test_a_caption_is_that_of_the_only_writing_task(by_task: UniPerceiver) -> None:
    assert by_task.caption(pictures(), max_words=5) == by_task.caption(pictures(), task="captions", max_words=5)


def test_without_a_better_one_a_task_of_another_kind_stands_in(tmp_path: Path) -> None:
    model = trained_by_task(tmp_path, ("colours", "words"))
    assert torch.equal(model.encode_image(pictures()), model.encode_image(pictures(), task="colours"))
    with pytest.raises(UserError, match=r"^encode_text: .*: colours, words$"):
        model.encode_text(TEXTS)


@pytest.mark.parametrize(
    ("call", "fitting"),
    [
        (lambda model: model.classify(pictures(), LABELS), "colours, shapes"),
        (lambda model: model.classify(clips(), LABELS), r"\(none fits\)"),
        (lambda model: model.classify(pictures(), LABELS, texts="what is it ?"), r"\(none fits\)"),
        (lambda model: model.caption(pictures()), r"\(none fits\)"),
        (lambda model: model.encode_text(TEXTS), "colours, relations, retrieval, clip_retrieval, shapes"),
    ],
)
def test_several_or_none_that_fit_are_listed(several: UniPerceiver, call: Call, fitting: str) -> None:
    pattern = rf"^\w+: this model chose its experts by task; say with task= which one is asked: {fitting}$"
    with pytest.raises(UserError, match=pattern) as caught:
        call(several)
    assert "\n" not in str(caught.value)


def test_calls_about_clips_and_pictures_are_told_apart(several: UniPerceiver) -> None:
    close(several.rank(clips(), TEXTS), several.rank(clips(), TEXTS, "clip_retrieval"))
    close(several.encode_video(clips()), several.encode_video(clips(), "clip_retrieval"))
    close(several.encode_image(pictures()), several.encode_image(pictures(), "retrieval"))
    for name in ("retrieval", "clip_retrieval"):
        assert several.encode_text(TEXTS, name).shape == (2, 16)
    assert not torch.allclose(several.encode_text(TEXTS, "retrieval"), several.encode_text(TEXTS, "clip_retrieval"))


def test_a_task_that_the_model_was_not_trained_on_is_refused(by_task: UniPerceiver) -> None:
    own = by_task.saved.tasks["colours"].task
    others = [
        Task(name="mine", inputs=("image",), candidates="labels", temperature="img_cls", labels=(("a",), ("b",))),
        replace(own, inputs=("video",)),
        replace(own, temperature="downstream"),
    ]
    for task in others:
        with pytest.raises(UserError, match=rf"^classify: .*'{task.name}' is none of .*: captions, colours, relations"):
            by_task.classify(pictures(), LABELS, task=task)
    with_labels = replace(own, labels=tuple((label,) for label in LABELS))
    close(by_task.classify(pictures(), task=with_labels), by_task.classify(pictures(), LABELS, task="colours"))
    with pytest.raises(UserError, match="unknown task 'colour'; did you mean 'colours'"):
        by_task.classify(pictures(), LABELS, task="colour")


def test_candidates_are_kept_for_each_task_apart(by_task: UniPerceiver) -> None:
    """The same texts are other candidates for another task, whoever asked first."""
    calls: dict[str, Call] = {
        "colours": lambda model: model.classify(pictures(), LABELS, task="colours"),
        "relations": lambda model: model.classify(TEXTS, LABELS, task="relations"),
        "retrieval": lambda model: model.rank(pictures(), LABELS, task="retrieval"),
        "captions": lambda model: model.rank(pictures(), LABELS, task="captions"),
    }
    fresh = {name: call(UniPerceiver(by_task.saved)) for name, call in calls.items()}
    used = UniPerceiver(by_task.saved)
    for name in (*calls, *reversed(calls), *calls):
        assert torch.equal(calls[name](used), fresh[name]), name
    candidates = [by_task.encode_text(LABELS, task=name) for name in calls]
    for place, one in enumerate(candidates):
        for other in candidates[place + 1 :]:
            assert float((one - other).abs().max()) > 1e-3


def test_a_model_that_routes_otherwise_asks_anonymous_tasks(model: UniPerceiver) -> None:
    own = Task(name="mine", inputs=("image",), candidates="labels", temperature="img_cls", labels=(("a",), ("b",)))
    close(model.classify(pictures(), task=own), model.classify(pictures(), ["a", "b"]))


def test_a_merged_model_takes_the_only_task_that_it_holds(several: UniPerceiver) -> None:
    merged = several.merge(["shapes", "retrieval"])
    close(merged.classify(pictures(), LABELS), several.classify(pictures(), LABELS, task="shapes"))
    close(merged.encode_text(TEXTS), several.encode_text(TEXTS, task="retrieval"))


@pytest.mark.parametrize("shape", [PromptShape(vectors=2, classes=3), PromptShape(vectors=2, labels=3)])
def test_a_model_that_does_not_know_the_names_of_its_classes_takes_as_many_labels(shape: PromptShape) -> None:
    """As one that was converted: its tasks are those of the catalogue, without labels."""
    tasks = {name: KnownTask(task=task, index=None, preprocess=VIEW) for name, task in CATALOGUE.items()}
    arch = tiny_architecture(prompts=shape)
    model = UniPerceiver(SavedModel(model=tiny_model(prompts=shape), arch=arch, codec=tiny_codec(), tasks=tasks))
    assert model.classify(pictures(), LABELS).shape == (3, 3)
    message = r"parameters for each of 3 classes, found 2 labels; give those of its classes, in their order$"
    with pytest.raises(UserError, match=message):
        model.classify(pictures(), LABELS[:2])
    assert model.rank(pictures(), TEXTS).shape == (3, 2)


def test_the_command_line_answers_alike(by_task: UniPerceiver, several: UniPerceiver, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(pictures()[0]).save(file, format="PNG")
    (tmp_path / "one.png").write_bytes(file.getvalue())
    by_task.save_pretrained(tmp_path / "model")
    several.save_pretrained(tmp_path / "several")
    files, question = [str(tmp_path / "one.png")], Question(kind="classify", labels=LABELS)
    (found,) = predict(load(tmp_path / "model"), question, files)
    expected = dict(zip(LABELS, by_task.classify(pictures()[0], LABELS, task="colours")[0].tolist(), strict=True))
    assert found["scores"] == pytest.approx(expected, abs=1e-5)
    with pytest.raises(UserError, match="say with task= which one is asked: colours, shapes"):
        predict(load(tmp_path / "several"), question, files)
    (again,) = predict(load(tmp_path / "several"), replace(question, task="shapes"), files)
    assert again["scores"].keys() == {*LABELS}


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("image_classification", "reads", "reads"),  # the same name, whatever its kind has become
        ("image_classification", "x", "names"),
        ("image_captioning", "x", "writes"),
        ("image_text_retrieval", "x", "writes"),  # of the same media the one with the lower index
        ("video_classification", "x", "reads"),  # of other media, but with labels too
        ("text_tagging", "x", "reads"),  # of the same media, though with another kind of answer
    ],
)
def test_a_view_is_that_of_the_task_that_is_most_alike(kind: str, name: str, expected: str) -> None:
    kinds = {
        "names": ("image_classification", 2),
        "writes": ("image_captioning", 1),
        "reads": ("text_classification", 0),
    }
    tasks = {
        own: KnownTask(task=replace(CATALOGUE[of], name=own), index=index, preprocess=replace(VIEW, size=8 + index))
        for own, (of, index) in kinds.items()
    }
    found = preprocess_for(tasks, replace(CATALOGUE[kind], name=name))
    assert found == tasks[expected].preprocess
    assert preprocess_for({}, CATALOGUE[kind]) == Preprocess()
