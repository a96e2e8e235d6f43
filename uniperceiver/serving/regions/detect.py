"""What is where: things in pictures, with labels that may be exchanged at will."""

from collections.abc import Iterable
from dataclasses import replace

from PIL import Image

from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.records.regions import Detections
from uniperceiver.serving import inputs
from uniperceiver.serving.asking.labels import labels_of_things
from uniperceiver.serving.asking.numbers import check_things
from uniperceiver.serving.engine.engine import Engine
from uniperceiver.serving.regions.draw import decoded, draw
from uniperceiver.serving.saved import KnownTask, SavedModel
from uniperceiver.serving.task_choice import fitting, refuse_other_classes
from uniperceiver.serving.values import Media, is_single
from uniperceiver.tasks.localisation.detections import detections_of
from uniperceiver.tasks.task import Task


def detections(
    saved: SavedModel,
    engine: Engine,
    call: str,
    images: Media | Iterable[Media],
    labels: Iterable[str | Iterable[str]] | None,
    task: str | Task | None,
    *,
    least: float,
    most: int,
    masks: bool,
) -> list[Detections]:
    """The things in every picture whose score is at least `least`, best first.

    Args:
        call: the method that is asked, for messages.
        labels: a text, or several, per class; None: the labels of `task`, or of the model's only such task.
        masks: ask for masks, too.

    Raises:
        UserError: the model makes no proposals, or no masks; no labels; `least` or `most` is no such number.
    """
    _check(saved, call, least, most, masks)
    chosen = _chosen(saved, call, labels, task, masks)
    names = chosen.task.answer.names(chosen.task, saved.codec)
    c_KD = engine.all_candidates(chosen)
    answers = []
    for pictures, regions, logits_RK in engine.located(chosen, inputs.samples_of(chosen.task.media, images), c_KD):
        term = chosen.task.class_term
        answers += detections_of(logits_RK, regions, pictures, names, int(most), term, least=least, masks=masks)
    return answers


def drawn(image: Media, answer: Detections) -> Image.Image:
    """A picture with what was found in it.

    Raises:
        UserError: the picture cannot be decoded, or is not the one that was asked about; several of them, or of their
            answers.
    """
    if not isinstance(answer, Detections):
        raise UserError(
            f"draw: a {type(answer).__name__} is not what was found in a picture; give the Detections of that picture, "
            "such as model.detect(...)[0]"
        )
    if not is_single(image):
        raise UserError(f"draw: give the picture itself, found a {type(image).__name__}")
    (sample,) = inputs.image_samples([image])
    pixels = sample.image
    try:
        picture = decoded(pixels, sample.id, answer.size) if isinstance(pixels, bytes) else pixels
    except BrokenSample as error:
        raise UserError(f"draw: {error}; give another file") from None
    assert picture is not None
    return draw(picture, answer)


def _check(saved: SavedModel, call: str, least: float, most: int, masks: bool) -> None:
    shape = saved.arch.regions
    if shape is None:
        raise UserError(
            f"{call}: this model reads pictures as patches and makes no proposals; train with model.image=regions"
        )
    if masks and not shape.masks:
        raise UserError(f"{call}: none of this model's tasks had masks; train a task of kind instance_segmentation")
    check_things(call, least, most)


def _chosen(
    saved: SavedModel,
    call: str,
    labels: Iterable[str | Iterable[str]] | None,
    task: str | Task | None,
    masks: bool,
) -> KnownTask:
    """The task that is asked, with the labels."""
    own = [name for name, trained in saved.tasks.items() if fits(trained.task, masks)]
    chosen = of_things(saved, call, task, masks)
    if labels is not None:
        alone = chosen.task.class_term != "softmax" or any(len(saved.tasks[name].task.labels) == 1 for name in own)
        named = labels_of_things(call, chosen.task.labels, labels, alone=alone, clean=saved.codec.clean)
        try:
            chosen = replace(chosen, task=replace(chosen.task, labels=named))
        except ValueError as error:
            raise UserError(f"{call}: labels: {error}") from None
    shape = saved.arch.regions
    if chosen.task.class_term == "sigmoid" and (shape is None or not shape.name_bias):
        raise UserError(f"{call}: class_term='sigmoid' needs a model that was trained with it; ask with 'softmax'")
    if not chosen.task.labels:
        raise UserError(
            f"{call}: give labels=[...], or task= the name of a task of the run: {', '.join(own) or '(none)'}"
        )
    refuse_other_classes(saved, chosen.task)
    return chosen


def of_things(saved: SavedModel, call: str, task: str | Task | None, masks: bool) -> KnownTask:
    """The task asked for; without one the model's only task of things, or an anonymous one.

    Raises:
        UserError: as `fitting`.
    """
    own = [name for name, trained in saved.tasks.items() if fits(trained.task, masks)]
    name = own[0] if task is None and len(own) == 1 else task
    return fitting(saved, call, name, "detect", "image", lambda asked: fits(asked, masks))


def fits(task: Task, masks: bool) -> bool:
    """Whether a task is one of things, and of their masks where those are asked for."""
    return task.answer.reads_objects and (task.masks or not masks)
