"""The figures of a task on a split: metrics, their 95 % intervals, and what chance would give."""

import math
from collections.abc import Mapping

import numpy as np

from uniperceiver.evaluation.answers import EVALUATIONS
from uniperceiver.evaluation.answers.kind import CANDIDATES, Metrics
from uniperceiver.evaluation.intervals import above_chance
from uniperceiver.evaluation.split import AnyModel, Settings, Split
from uniperceiver.tasks.task import Task


def main_metric(task: Task) -> str:
    """The metric by which a task is judged first, and to which `chance` belongs."""
    return metric_names(task)[0]


def metric_names(task: Task) -> list[str]:
    """The metrics by which checkpoints can be compared on a task, the first one first."""
    return [*EVALUATIONS[task.answer_name].metrics_of(task), "loss"]


def explanation(task: Task) -> str:
    """What is seen where answers to a task are shown; "": that explains itself."""
    return EVALUATIONS[task.answer_name].explained


def first_metric(metrics: Mapping[str, float]) -> str | None:
    """The metric by which the task with these figures is judged first; None: none of them is one."""
    names = (evaluation.judged_by(metrics) for evaluation in EVALUATIONS.values())
    return next((name for name in names if name is not None), None)


def lower_is_better(metric: str) -> bool:
    """Whether a small value of a metric is a good value."""
    names = frozenset({"loss", "perplexity"}).union(*(kind.lower_is_better for kind in EVALUATIONS.values()))
    return metric in names


def beats_chance(metric: str, low: float, high: float, chance: float) -> bool:
    """Whether a result is clearly better than chance: its 95 % interval excludes it. NaN never is."""
    return high < chance if lower_is_better(metric) else above_chance(low, chance)


def not_alike(splits: Mapping[str, Mapping[str, float]]) -> str | None:
    """A remark on figures of a task whose splits have different numbers of candidates; None: there is none to make."""
    sizes = {split: int(metrics[CANDIDATES]) for split, metrics in splits.items() if metrics.get(CANDIDATES)}
    if len(set(sizes.values())) < 2:
        return None
    among = ", ".join(f"{size:,} ({split})" for split, size in sizes.items())
    return (
        f"recall and loss are among different numbers of candidates, {among}: the fewer, the easier; "
        "compare with chance"
    )


def absent_sizes(splits: Mapping[str, Mapping[str, float]]) -> str | None:
    """A remark on splits that have no things of a size, as COCO counts it; None: there is none to make."""
    absent = {
        split: [size for size in ("small", "medium", "large") if f"ap_{size}" not in metrics]
        for split, metrics in splits.items()
        if "ap" in metrics
    }
    parts = [f"no {' and no '.join(sizes)} things in {split}" for split, sizes in absent.items() if sizes]
    return "; ".join(parts) or None


def remark_on(splits: Mapping[str, Mapping[str, float]]) -> str | None:
    """What people should know of the figures of a task's splits; None: nothing."""
    return "; ".join(filter(None, (not_alike(splits), absent_sizes(splits)))) or None


def evaluate(model: AnyModel, split: Split, settings: Settings) -> Metrics:
    """All metrics of the split under the names of docs/results.md, with NAME_low and NAME_high (95 %).

    Losses are means of -log P in nats, over the whole candidate set. Retrieval's loss adds both ways, as in training.

    Raises:
        UserError: too many broken samples.
    """
    return EVALUATIONS[split.task.answer_name].metrics(model, split, settings)


def score_by(results: Mapping[str, Metrics], best: str) -> float:
    """One number by which checkpoints are compared, lower is better.

    Args:
        best: "score", or TASK/METRIC; NaN where the evaluation could not measure that.
    """
    if best == "score":
        return score(results)
    task, _, metric = best.rpartition("/")
    value = results[task].get(metric, math.nan)
    return value if lower_is_better(metric) else -value


def score(results: Mapping[str, Metrics]) -> float:
    """One number for a whole evaluation, lower is better: the mean loss of the tasks that have one, NaN if none has."""
    losses = [metrics["loss"] for metrics in results.values() if not math.isnan(metrics["loss"])]
    return float(np.mean(losses)) if losses else math.nan
