"""The sections of classes: which class was taken for which, and how good answers and found things are class by class.

Shape suffixes: K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from uniperceiver.evaluation.predictions import ClassPrecision, ClassTable
from uniperceiver.report.figures.canvas import file_names
from uniperceiver.report.figures.confusion import confusion_map
from uniperceiver.report.figures.svg import inline
from uniperceiver.report.parts.numbers import MetricValue, headline_split, metric_names, metric_value
from uniperceiver.report.run.records import RunReport

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

_ROWS = 50  # classes that the table of a task shows


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """Holds the figures of a class; None: it never was right, or never answered."""

    name: str
    samples: int
    recall: float | None  # share of its samples that were answered by it
    precision: float | None  # share of the answers by it that are right
    f1: float | None
    taken_for: str  # the class that its samples were taken for most often; "": none was


@dataclass(frozen=True, kw_only=True)
class ClassGroup:
    """Holds the classes of a task on its headline split."""

    task: str
    tone: int
    split: str
    figure: "Markup"
    rows: Sequence[ClassRow]
    total: int  # classes, with those that are not shown


@dataclass(frozen=True, kw_only=True)
class FoundRow:
    """Holds how well the things of a class were found."""

    name: str
    things: int
    values: Sequence[MetricValue]


@dataclass(frozen=True, kw_only=True)
class FoundGroup:
    """Holds the classes of a task that finds things, on its headline split."""

    task: str
    tone: int
    split: str
    metrics: Sequence[str]
    rows: Sequence[FoundRow]
    total: int  # classes of which there are things


def class_precisions(results: Mapping[str, Any]) -> dict[str, dict[str, ClassPrecision]]:
    """Read from results.json how well things of each class were found."""
    return {
        task: {split: ClassPrecision.from_values(values) for split, values in splits.items()}
        for task, splits in results.get("precision", {}).items()
    }


def found_groups(report: RunReport) -> list[FoundGroup]:
    """List the classes of each task that finds things, those that are found worst first."""
    groups = []
    for task, splits in report.precision.items():
        split = headline_split(splits)
        if split is None:
            continue
        precision = splits[split]
        metrics = metric_names(dict.fromkeys(precision.figures, 0.0))
        rows = []
        for place, (name, things) in enumerate(zip(precision.names, precision.things, strict=True)):
            figures = {key: values_K[place] for key, values_K in precision.figures.items()}
            there = {key: value for key, value in figures.items() if value is not None}
            values = [metric_value(there, metric, "") for metric in metrics]
            if things:
                rows.append(FoundRow(name=name, things=things, values=values))
        rows.sort(key=lambda row: (row.values[0].value or 0.0, -row.things))
        groups.append(
            FoundGroup(
                task=task,
                tone=report.tone(task),
                split=split,
                metrics=metrics,
                rows=rows[:_ROWS],
                total=len(rows),
            )
        )
    return groups


def class_tables(results: Mapping[str, Any]) -> dict[str, dict[str, ClassTable]]:
    """Read the confusion matrices of results.json; runs of older versions have none."""
    return {
        task: {split: ClassTable.from_values(values) for split, values in splits.items()}
        for task, splits in results.get("classes", {}).items()
    }


def class_groups(report: RunReport) -> list[ClassGroup]:
    """Draw the classes of each task that has some, those with the lowest recall first."""
    groups = []
    for task, (split, table) in _headlines(report).items():
        rows = class_rows(table)
        label = f"{task}, {split}: how often each class was answered by each class"
        groups.append(
            ClassGroup(
                task=task,
                tone=report.tone(task),
                split=split,
                figure=inline(confusion_map(table.names, table.confusion_KK), label),
                rows=rows[:_ROWS],
                total=len(rows),
            )
        )
    return groups


def class_figures(report: RunReport) -> "dict[str, Figure]":
    """Draw the confusion matrix of each task that has classes."""
    headlines = _headlines(report)
    return {
        f"confusion_{name}": confusion_map(headlines[task][1].names, headlines[task][1].confusion_KK)
        for task, name in file_names(headlines).items()
    }


def class_rows(table: ClassTable) -> list[ClassRow]:
    """Figures of every class that occurs or was answered, those with the lowest recall first, absent ones last."""
    confusion_KK = table.confusion_KK
    samples_K, answered_K, right_K = confusion_KK.sum(1), confusion_KK.sum(0), np.diagonal(confusion_KK)
    rows = []
    for place in np.flatnonzero(samples_K + answered_K).tolist():
        samples, answered, right = (int(value_K[place]) for value_K in (samples_K, answered_K, right_K))
        others_K = np.where(np.arange(len(confusion_KK)) == place, 0, confusion_KK[place])
        rows.append(
            ClassRow(
                name=table.names[place],
                samples=samples,
                recall=right / samples if samples else None,
                precision=right / answered if answered else None,
                f1=2 * right / (samples + answered),
                taken_for=table.names[int(others_K.argmax())] if others_K.any() else "",
            )
        )
    return sorted(rows, key=lambda row: (row.recall is None, row.recall or 0.0, -row.samples))


def _headlines(report: RunReport) -> dict[str, tuple[str, ClassTable]]:
    """The split by which each task with classes is judged, and its table."""
    chosen = {}
    for task, splits in report.classes.items():
        split = headline_split(splits)
        if split is not None and splits[split].counts:
            chosen[task] = (split, splits[split])
    return chosen
