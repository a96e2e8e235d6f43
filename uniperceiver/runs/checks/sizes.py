"""What does not fit into a model: pictures and sounds that are not whole patches, texts without positions."""

import dataclasses
from collections.abc import Iterator, Sequence

from uniperceiver.config import Recipe, TaskConfig
from uniperceiver.data.media.mel import most_mels
from uniperceiver.data.tasks import TaskData
from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture
from uniperceiver.records.sounds import SoundShape


def check_sizes(recipe: Recipe, tasks: Sequence[TaskData], arch: Architecture) -> None:
    """Refuse pictures and sounds that are not whole patches, and texts without positions.

    Raises:
        UserError: the key of the task is said.
    """
    for data in tasks:
        late = data.config.late.size
        if data.task.visual and late and late % arch.patch:
            raise UserError(
                f"tasks.{data.task.name}.late.size: {late} is not a multiple of the patch side {arch.patch}"
            )
        for where, config in _sizes_of(data):
            if arch.sound is not None and data.task.hears:
                _check_sound(where, config, arch.sound)
            if data.task.visual and config.size % arch.patch:
                raise UserError(f"{where}.size: {config.size} is not a multiple of the patch side {arch.patch}")
            if config.length > arch.max_text:
                raise UserError(f"{where}.length: {config.length} is more than model.max_text {arch.max_text}")
    if recipe.evaluation.max_words > arch.max_text:
        raise UserError(
            f"evaluation.max_words: {recipe.evaluation.max_words} is more than model.max_text {arch.max_text}"
        )


def _sizes_of(data: TaskData) -> Iterator[tuple[str, TaskConfig]]:
    """The task's own sizes, and those of each of its shapes, with the key that says them."""
    yield f"tasks.{data.task.name}", data.config
    for number, shape in enumerate(data.config.shapes):
        sizes = {name: value for name in ("size", "seconds", "hop", "length") if (value := getattr(shape, name))}
        yield f"tasks.{data.task.name}.shapes[{number}]", dataclasses.replace(data.config, **sizes)


def _check_sound(where: str, config: TaskConfig, shape: SoundShape) -> None:
    """Refuse a length of sounds that is not whole patches, and a hop that the model's bands do not fit.

    Raises:
        UserError: the key of the task is said, with values that fit.
    """
    seconds, hop = config.seconds, config.hop
    if shape.kind == "waveform" and hop != TaskConfig.hop:
        raise UserError(f"{where}.hop: has no meaning with model.sound.kind=waveform; remove the key")
    if shape.kind == "spectrogram" and shape.mels > (most := most_mels(shape.rate, hop)):
        whole = most // shape.patch[1] * shape.patch[1]
        mend = f"write {whole} or fewer, or a longer hop" if whole else "write a longer hop"
        raise UserError(
            f"model.sound.mels: of {shape.mels} bands some hold no frequency at {where}.hop={hop:g}; {mend}"
        )
    rows, patch, row = shape.rows(seconds, hop), shape.patch[0], shape.row(hop)
    if rows % patch:
        fewer = int(rows) // patch * patch
        fitting = [f"{number * row / shape.rate:g}" for number in (fewer, fewer + patch) if number]
        raise UserError(
            f"{where}.seconds: {seconds:g} are {rows:g} rows of {shape.step(hop):g} ms, and a patch of "
            f"model.sound.patch has {patch}; write {' or '.join(fitting)}"
        )
