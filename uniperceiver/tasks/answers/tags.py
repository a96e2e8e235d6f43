"""The answer is a set of the task's classes: several may be right, and the target is spread over them equally.

Shape suffixes: R read-outs, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from uniperceiver.records import Readout, Sample, Sequences
from uniperceiver.tasks.answers.kind import Asked
from uniperceiver.tasks.answers.labels import Labels
from uniperceiver.tasks.candidates import TextCodec

if TYPE_CHECKING:
    from uniperceiver.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class TagsAsked(Asked):
    """What is asked of a sample of which several classes are right."""

    right: tuple[int, ...] = ()


class Tags(Labels):
    """Classes as `Labels` has them, of which a sample has any number."""

    candidates = "tags"

    def lacking(self, task: "Task", sample: Sample, *, training: bool) -> str | None:
        return (
            "label; give what has none a class of its own, such as 'none'" if training and not _right(sample) else None
        )

    def asked(
        self, task: "Task", sample: Sample, codec: TextCodec, length: int, rng: np.random.Generator, *, training: bool
    ) -> Asked:
        asked = super().asked(task, replace(sample, label=None), codec, length, rng, training=training)
        return TagsAsked(sample=asked.sample, text=asked.text, right=_right(sample))

    def readout(self, task: "Task", asked: Sequence[Asked], inputs: Sequences) -> Readout:
        """A distribution for each sample: equal shares of the classes that are right; zeros where none is."""
        soft_RK = torch.zeros(len(asked), len(task.labels))
        for row, sample in enumerate(asked):
            right = list(sample.right) if isinstance(sample, TagsAsked) else []
            soft_RK[row, right] = 1 / max(len(right), 1)
        return replace(super().readout(task, asked, inputs), soft_RK=soft_RK)


def _right(sample: Sample) -> tuple[int, ...]:
    return sample.labels if sample.label is None else (sample.label,)
