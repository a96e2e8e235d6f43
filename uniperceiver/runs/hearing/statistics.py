"""How a run hears: the mean and the deviation of its training sounds are measured once, and saved with its model.

Shape suffixes: F rows of a sound's grid, M columns.
"""

import dataclasses
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from uniperceiver.data.media.sound_view import sound_grid
from uniperceiver.data.tasks import TaskData
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.model.architecture import Architecture
from uniperceiver.records.sounds import SoundShape
from uniperceiver.serving.saved import read_architecture
from uniperceiver.streams import numpy_stream
from uniperceiver.training.checkpoint import list_checkpoints

_MEASURED = 256  # sounds, which all tasks that hear share


def measured(arch: Architecture, tasks: Sequence[TaskData], seed: int, folder: Path) -> Architecture:
    """The architecture with the mean and the deviation of what is heard, unless it has them from its start.

    A run that goes on has those that it began with.
    """
    if arch.sound is None or arch.sound.is_measured:
        return arch
    if list_checkpoints(folder / "checkpoints") and (folder / "model" / "config.json").is_file():
        return dataclasses.replace(arch, sound=read_architecture(folder / "model").sound)
    return dataclasses.replace(arch, sound=_measured(arch.sound, [data for data in tasks if data.task.hears], seed))


def heard_alike(tasks: Sequence[TaskData], arch: Architecture) -> list[TaskData]:
    """The tasks, of which those that hear do so as the model does.

    Raises:
        UserError: the model does not hear.
    """

    def of(data: TaskData) -> TaskData:
        if arch.sound is None:
            raise UserError(
                f"tasks.{data.task.name}: hears ({', '.join(data.task.modalities)}), which this model does not; train "
                "one with this task"
            )
        return dataclasses.replace(data, preprocess=dataclasses.replace(data.preprocess, sound=arch.sound))

    return [of(data) if data.task.hears else data for data in tasks]


def _measured(shape: SoundShape, tasks: Sequence[TaskData], seed: int) -> SoundShape:
    """The shape with mean and deviation of some training sounds of each task, as evaluation hears them."""
    plain = dataclasses.replace(shape, mean=0.0, deviation=1.0)
    count, total, squares = 0, 0.0, 0.0
    for data in tasks:
        source, preprocess = data.sources["train"], dataclasses.replace(data.preprocess, sound=plain)
        order = numpy_stream(seed, "sounds measured", data.task.name).permutation(len(source))
        for index in order[: math.ceil(_MEASURED / len(tasks))]:
            with suppress(BrokenSample):  # which training tells
                grid_FM = sound_grid(source.read(int(index)), preprocess).astype(np.float64)
                count, total, squares = count + grid_FM.size, total + grid_FM.sum(), squares + np.square(grid_FM).sum()
    if not count:
        return plain
    mean = total / count
    deviation = math.sqrt(max(squares / count - mean**2, 0.0))
    return dataclasses.replace(shape, mean=round(mean, 6), deviation=round(deviation, 6) or 1.0)
