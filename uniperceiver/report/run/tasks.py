"""The top of a run's page: a sentence on all tasks, a card for each, and the table of all metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uniperceiver.evaluation.evaluate import lower_is_better, remark_on
from uniperceiver.report.figures.dots import metric_dots
from uniperceiver.report.figures.svg import inline
from uniperceiver.report.parts.numbers import (
    MetricValue,
    finite,
    headline_split,
    in_reading_order,
    metric_names,
    metric_value,
    written,
)
from uniperceiver.report.run.records import Metrics, RunReport

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True, kw_only=True)
class TaskCard:
    """Holds a task's main metric on its headline split, and a figure of all splits."""

    task: str
    tone: int
    split: str
    n: float | None
    value: MetricValue
    figure: "Markup"


@dataclass(frozen=True, kw_only=True)
class MetricsRow:
    """Holds a metric of a task on all splits; None: not measured there."""

    name: str
    is_main: bool
    lower: bool  # whether lower is better
    values: Sequence[MetricValue | None]


@dataclass(frozen=True, kw_only=True)
class TaskMetrics:
    """Holds all metrics of a task."""

    task: str
    tone: int
    sizes: Sequence[float | None]  # samples of each split
    remark: str | None  # on figures of the splits that are not alike
    rows: Sequence[MetricsRow]


def verdict(report: RunReport) -> str | None:
    """Say in a sentence how many tasks are above chance; what is not held out is counted apart."""
    held_out, above, training = 0, 0, 0
    for task, splits in report.results.items():
        split = headline_split(splits)
        if split is None or split == "train":
            training += 1
            continue
        held_out += 1
        above += report.main_value(task, splits[split]).above_chance is True
    parts = []
    if held_out:
        parts.append(f"{above} of {held_out} task{'s' * (held_out > 1)} clearly above chance on held-out data")
    if training:
        parts.append(f"{training} task{'s' * (training > 1)} measured on training data only")
    return "; ".join(parts) + "." if parts else None


def task_cards(report: RunReport) -> list[TaskCard]:
    """Make a card for each task that was measured."""
    return [_card(report, task, splits) for task, splits in report.results.items() if any(splits.values())]


def _card(report: RunReport, task: str, splits: Mapping[str, Metrics]) -> TaskCard:
    split = headline_split({name: metrics for name, metrics in splits.items() if metrics}) or ""
    values = {name: report.main_value(task, splits[name]) for name in in_reading_order(splits) if splits[name]}
    tone = report.tone(task)
    figure = metric_dots(values, tones=[tone] * len(values), axis=False)
    label = "; ".join(f"{name}: {_in_words(value)}" for name, value in values.items())
    n = finite(splits[split].get("n"))
    return TaskCard(task=task, tone=tone, split=split, n=n, value=values[split], figure=inline(figure, label))


def _in_words(value: MetricValue) -> str:
    text = f"{value.name} {written(value.value, value.name)}"
    if value.low is not None and value.high is not None:
        text += f", 95 % interval {written(value.low, value.name)} to {written(value.high, value.name)}"
    return text + ("" if value.chance is None else f", chance {written(value.chance, value.name)}")


def metrics_table(report: RunReport) -> tuple[list[str], list[TaskMetrics]]:
    """Gather all metrics of all tasks with intervals and chance; the splits that are the columns come first."""
    splits = in_reading_order({name: None for task in report.results.values() for name in task if task[name]})
    tasks = [_metrics_of(report, task, parts, splits) for task, parts in report.results.items() if any(parts.values())]
    return splits, tasks


def _metrics_of(report: RunReport, task: str, parts: Mapping[str, Metrics], splits: Sequence[str]) -> TaskMetrics:
    rows = []
    for name in dict.fromkeys(name for metrics in parts.values() for name in metric_names(metrics)):
        values: list[MetricValue | None] = []
        is_main = False
        for metrics in (parts.get(split, {}) for split in splits):
            main = report.main_metric(task, metrics)
            is_main |= name == main
            values.append(metric_value(metrics, name, main) if name in metrics else None)
        rows.append(MetricsRow(name=name, is_main=is_main, lower=lower_is_better(name), values=values))
    sizes = [finite(parts.get(split, {}).get("n")) for split in splits]
    remark = remark_on({split: parts[split] for split in splits if split in parts})
    return TaskMetrics(task=task, tone=report.tone(task), sizes=sizes, remark=remark, rows=rows)
