"""What a model answered on a split, sample by sample, and how often each class was taken for another.

Shape suffixes: R read-outs, K candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from uniperceiver.records import Batch

COLUMNS: Mapping[str, type] = {
    "task": str,
    "split": str,
    "sample": str,
    "truth": str,
    "answer": str,
    "probability": float,
    "right": bool,
}
BOX_COLUMNS: Mapping[str, type] = {**COLUMNS, "box": str}  # where any answer is about a thing in a picture


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """An answer to a sample beside what is right; a row of the file that `evaluate --predictions` writes."""

    task: str
    split: str
    sample: str
    truth: tuple[str, ...]  # any of them is right; a masked text has a row for each hidden token
    answer: str
    probability: float | None = None  # of the answer, among the candidates; None: of a text that was written
    right: bool | None = None  # None: not a matter of right or wrong
    box: str = ""  # of a thing in a picture: x0 y0 x1 y1 in its pixels


@dataclass(frozen=True, kw_only=True)
class ClassPrecision:
    """How well things of each class were found."""

    names: tuple[str, ...]  # of the classes
    things: tuple[int, ...]  # how many there are to find
    figures: Mapping[str, tuple[float | None, ...]]  # metric, or NAME_low and NAME_high; None: there is nothing to find

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "ClassPrecision":
        """What `results.json` holds of it."""
        figures = {name: tuple(values_K) for name, values_K in values["figures"].items()}
        return cls(names=tuple(values["names"]), things=tuple(values["things"]), figures=figures)


def plain(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Predictions as plain values, as they travel between processes."""
    return [vars(prediction) for prediction in predictions]


def of_plain(values: Sequence[Mapping[str, Any]]) -> list[Prediction]:
    """What `plain` was given."""
    return [Prediction(**{**value, "truth": tuple(value["truth"])}) for value in values]


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """How often each class of a task was answered by each class: a confusion matrix without its zeros."""

    names: tuple[str, ...]  # of the classes
    counts: tuple[tuple[int, int, int], ...]  # right class, answered class, samples

    @classmethod
    def of(cls, names: Sequence[str], confusion_KK: np.ndarray) -> "ClassTable":
        """The table of a confusion matrix, row: the right class."""
        places = zip(*np.nonzero(confusion_KK), strict=True)
        counts = tuple((int(row), int(column), int(confusion_KK[row, column])) for row, column in places)
        return cls(names=tuple(names), counts=counts)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "ClassTable":
        """What `results.json` holds of a table."""
        return cls(names=tuple(values["names"]), counts=tuple((row, column, n) for row, column, n in values["counts"]))

    @property
    def confusion_KK(self) -> np.ndarray:
        """The whole matrix, int64."""
        confusion_KK = np.zeros((len(self.names), len(self.names)), np.int64)
        for row, column, samples in self.counts:
            confusion_KK[row, column] = samples
        return confusion_KK


def likeliest_of(
    task: str, split: str, names: Sequence[str], batch: Batch, logits_RK: Tensor, target_R: Tensor
) -> list[Prediction]:
    """The likeliest candidate of each read-out of a batch whose right one is known."""
    best = logits_RK.float().softmax(dim=-1).max(dim=-1)
    rows = zip(
        batch.readout.row_R.tolist(), target_R.tolist(), best.indices.tolist(), best.values.tolist(), strict=True
    )
    return [
        Prediction(
            task=task,
            split=split,
            sample=batch.ids[row],
            truth=(names[target],),
            answer=names[answer],
            probability=probability,
            right=answer == target,
        )
        for row, target, answer, probability in rows
        if target >= 0
    ]
