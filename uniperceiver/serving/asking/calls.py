"""What may be asked of a model with a task and without, and the model with its experts folded for all of it."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from uniperceiver.errors import UserError
from uniperceiver.modalities import TEXT
from uniperceiver.model.merge import merge_model
from uniperceiver.moe.conditions import condition_of
from uniperceiver.records import Segment
from uniperceiver.serving.asking.labels import classifies
from uniperceiver.serving.regions.detect import of_things
from uniperceiver.serving.saved import KnownTask, SavedModel
from uniperceiver.serving.task_choice import fitting, for_texts, media_alone
from uniperceiver.tasks.task import Task

MEDIA = ("image", "video", "audio")  # that a call without a task may be about


def calls_without_task(saved: SavedModel) -> Iterator[tuple[str, KnownTask | str]]:
    """What calls without a task ask, or why they cannot be asked."""

    def chosen(call: str, question: str, modality: str, fits: Callable[[Task], bool]) -> KnownTask | str:
        try:
            return fitting(saved, call, None, question, modality, fits)
        except UserError as error:
            return str(error)

    seen = {modality for trained in saved.tasks.values() for modality in trained.task.inputs}
    written = {trained.task.media for trained in saved.tasks.values() if trained.task.answer.causal}
    for modality in MEDIA:

        def looks_at(task: Task, modality: str = modality) -> bool:
            return modality in task.inputs

        if modality in seen:
            yield f"encode_{modality} {modality}", chosen(f"encode_{modality}", "rank", modality, looks_at)
    try:
        yield "encode_text text", for_texts(saved, None)
    except UserError as error:
        yield "encode_text text", str(error)
    for call, masks in (("detect", False), ("segment", True)):
        if saved.arch.regions is None or (masks and not saved.arch.regions.masks):
            continue
        try:
            yield f"{call} image", of_things(saved, call, None, masks)
        except UserError as error:
            yield f"{call} image", str(error)
    reads_texts = any(not trained.task.media for trained in saved.tasks.values())
    for modality in (*MEDIA, TEXT):
        if not (reads_texts if modality == TEXT else modality in seen):
            continue
        if modality != TEXT:
            yield f"rank {modality}", chosen("rank", "rank", modality, lambda task: bool(task.media))
            if (modality,) in written:
                yield (
                    f"caption {modality}",
                    chosen("caption", "caption", modality, lambda task: task.answer.question == "caption"),
                )
        yield f"classify {modality}", chosen("classify", "classify", modality, lambda task: _classifies(task, False))
        if modality != TEXT and any(_classifies(trained.task, True) for trained in saved.tasks.values()):
            yield (
                f"classify {modality} text",
                chosen("classify", "classify", modality, lambda task: _classifies(task, True)),
            )


def _classifies(task: Task, texts: bool) -> bool:
    return classifies(task.answer.question, task.inputs, with_text=texts)


def merged_for_calls(saved: SavedModel) -> SavedModel:
    """The model with its experts folded into plain weights, where they are not chosen by values: exact, and smaller.

    It answers all that may be asked: every task, and calls without one. Others are given back as they are.
    """
    arch = saved.arch
    if arch.moe is None or arch.merged is not None or condition_of(arch.moe.condition).by_token:
        return saved
    anonymous = (chosen for _, chosen in calls_without_task(saved) if isinstance(chosen, KnownTask))
    needs: dict[str, tuple[Segment, ...]] = {}
    for trained in (*saved.tasks.values(), *anonymous):
        name = trained.task.name
        own = (*trained.task.segments(trained.index), *media_alone(trained).task.segments(trained.index))
        needs[name] = (*needs.get(name, ()), *own)
    merging = merge_model(saved.model, arch, needs)
    return replace(saved, model=merging.model, arch=merging.arch, base=None)
