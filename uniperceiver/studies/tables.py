"""OUTCOMES -> TABLES: figures over seeds, gaps, Δ_MTL, times and learning curves of a study's arms.

Shape suffixes: G groups of figures, N seeds, P points of a curve, S seeds of a curve.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from uniperceiver.errors import UserError, nearest
from uniperceiver.evaluation.evaluate import lower_is_better
from uniperceiver.report.parts.numbers import in_reading_order, metric_names
from uniperceiver.report.parts.series import Series, read_keys, read_series, smoothed
from uniperceiver.studies.cells import CellOutcome
from uniperceiver.studies.plan import StudyCell, StudyPlan
from uniperceiver.studies.records import (
    CurveBand,
    FailedCell,
    MetricRow,
    SeedEstimate,
    SeedSpread,
    StudyArm,
    StudyReport,
)
from uniperceiver.studies.run import why_failed
from uniperceiver.studies.statistics import (
    BySeed,
    delta_mtl,
    difference,
    estimate,
    gap_closed,
    is_gap,
    standard_error,
)
from uniperceiver.training.log import read_log

_POINTS = 80  # of a curve
_NOISY = 12  # shorter curves are drawn as they are

# task -> split -> metric -> arm -> seed -> value
Figures = dict[str, dict[str, dict[str, dict[str, dict[int, float]]]]]
Curves = dict[str, dict[str, dict[str, CurveBand]]]  # what is drawn -> task -> arm -> curve


def tables_of(plan: StudyPlan, outcomes: Sequence[CellOutcome]) -> StudyReport:
    """Compare the arms of a study by what its cells have come to so far.

    Raises:
        UserError: the study measures a task by a metric that it does not have.
    """
    figures = _figures(plan, outcomes)
    measures = _measures(plan, figures)
    rows = [
        _row(plan, task, split, metric, by_arm, first=measures[task] == metric)
        for task, splits in figures.items()
        for split, metrics in splits.items()
        for metric, by_arm in metrics.items()
    ]
    done = sum(outcome.state == "done" for outcome in outcomes)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    return StudyReport(
        title=plan.path.stem,
        facts=_facts(plan, done, len(failed)),
        study=plan.path.read_text(encoding="utf-8"),
        arms=_arms(plan, outcomes, figures, measures),
        rows=rows,
        failures=[
            FailedCell(arm=cell.arm, seed=cell.seed, why=why_failed(cell.exit_code), last_lines=cell.last_lines)
            for cell in failed
        ],
        curves=curves_of(plan, outcomes),
        baseline=plan.config.baseline,
        reference=plan.config.reference,
    )


def _facts(plan: StudyPlan, done: int, failed: int) -> dict[str, str]:
    steps = sorted({cell.recipe.steps for cell in plan.cells})
    facts = {"runs": f"{done} of {len(plan.cells)}", "tasks": ", ".join(plan.tasks)}
    facts["steps"] = " to ".join(f"{count:,}" for count in dict.fromkeys((steps[0], steps[-1])))
    return facts | ({"failed": str(failed)} if failed else {})


def _figures(plan: StudyPlan, outcomes: Sequence[CellOutcome]) -> Figures:
    """The cells' figures, by task in the order of the recipe."""
    figures: Figures = {}
    order = {arm: place for place, arm in enumerate(plan.arms)}
    by_arm = sorted(outcomes, key=lambda outcome: (order[outcome.arm], outcome.seed))
    for task in plan.tasks:
        splits = in_reading_order({split: None for outcome in by_arm for split in outcome.results.get(task, {})})
        for split in splits:
            for outcome in by_arm:
                metrics = outcome.results.get(task, {}).get(split, {})
                for metric in metric_names(metrics):
                    arms = figures.setdefault(task, {}).setdefault(split, {}).setdefault(metric, {})
                    value: Any = metrics[metric]  # null where it was not finite
                    arms.setdefault(outcome.arm, {})[outcome.seed] = np.nan if value is None else float(value)
    return figures


def _measures(plan: StudyPlan, figures: Figures) -> dict[str, str]:
    """The metric by which each task is judged first."""
    measure = plan.config.measure
    measures = {task: measure if isinstance(measure, str) else measure.get(task, "loss") for task in plan.tasks}
    for task, splits in figures.items():
        choices = dict.fromkeys(metric for metrics in splits.values() for metric in metrics)
        if (name := measures[task]) not in choices:
            raise UserError(f"{plan.path}: measure: task {task!r} has no metric {name!r}; {nearest(name, choices)}")
    return measures


def _row(plan: StudyPlan, task: str, split: str, metric: str, arms: Mapping[str, BySeed], *, first: bool) -> MetricRow:
    spreads = {arm: spread(by_seed) for arm, by_seed in arms.items()}
    parts: dict[str, Any] = {}
    shared, own = arms.get(plan.config.baseline or ""), arms.get(plan.config.reference or "")
    if shared:
        others = {arm: by_seed for arm, by_seed in arms.items() if arm != plan.config.baseline}
        parts["differences"] = {arm: difference(by_seed, shared) for arm, by_seed in others.items()}
    if shared and own:
        gap = difference(own, shared)
        parts |= {"gap": gap, "is_gap": is_gap(gap)}
        if is_gap(gap):
            others = {arm: x for arm, x in arms.items() if arm not in (plan.config.baseline, plan.config.reference)}
            parts["closed"] = {
                arm: estimate(lambda means_G: gap_closed(*means_G), [x, shared, own]) for arm, x in others.items()
            }
    return MetricRow(
        task=task, split=split, metric=metric, lower=lower_is_better(metric), first=first, arms=spreads, **parts
    )


def spread(by_seed: BySeed) -> SeedSpread:
    """Mean and standard error over seeds."""
    value_N = list(by_seed.values())
    return SeedSpread(mean=float(np.mean(value_N)), error=standard_error(value_N), seeds=by_seed)


def _arms(
    plan: StudyPlan, outcomes: Sequence[CellOutcome], figures: Figures, measures: Mapping[str, str]
) -> list[StudyArm]:
    seconds: dict[str, dict[int, float]] = {arm: {} for arm in plan.arms}
    for outcome in outcomes:
        if outcome.step_seconds is not None:
            seconds[outcome.arm][outcome.seed] = outcome.step_seconds
    base = seconds.get(plan.config.baseline or "")
    arms = []
    for name in plan.arms:
        own = [outcome for outcome in outcomes if outcome.arm == name]
        ratio = (
            estimate(lambda means_G: means_G[0] / means_G[1] if means_G[1] else math.nan, [seconds[name], base])
            if base
            else None
        )
        arms.append(
            StudyArm(
                name=name,
                keys=_keys(plan, name),
                done=sorted(cell.seed for cell in own if cell.state == "done"),
                failed=sorted(cell.seed for cell in own if cell.state == "failed"),
                parameters=next((cell.parameters for cell in own if cell.parameters), None),
                step_seconds=spread(seconds[name]) if seconds[name] else None,
                time_ratio=ratio if ratio and seconds[name] else None,
                delta=_deltas(plan, name, figures, measures),
            )
        )
    return arms


def _keys(plan: StudyPlan, arm: str) -> dict[str, str]:
    """The keys of an arm without those that are the same in all."""
    cells = {cell.arm: cell.overrides for cell in reversed(plan.cells)}
    own = {key: value for key, value in cells[arm].items() if key not in ("seed", "threads", "tasks")}
    keys = {key: value for key, value in own.items() if any(other.get(key) != value for other in cells.values())}
    tasks = next(list(cell.recipe.tasks) for cell in plan.cells if cell.arm == arm)
    return keys | ({"tasks": ", ".join(tasks)} if tasks != plan.tasks else {})


def _deltas(plan: StudyPlan, arm: str, figures: Figures, measures: Mapping[str, str]) -> dict[str, SeedEstimate] | None:
    """Δ_MTL of an arm by split, over the tasks that it shares with the single-task runs."""
    single = plan.config.single
    arms = dict.fromkeys(plan.tasks, single) if isinstance(single, str) else single
    if not arms or arm in arms.values():
        return None
    deltas = {}
    for split in in_reading_order({split: None for splits in figures.values() for split in splits}):
        pairs: dict[str, tuple[BySeed, BySeed]] = {}
        for task, alone in arms.items():
            by_arm = figures.get(task, {}).get(split, {}).get(measures[task], {})
            if arm in by_arm and alone in by_arm:
                pairs[task] = (by_arm[arm], by_arm[alone])
        if pairs:
            groups = [shared for shared, _ in pairs.values()] + [alone for _, alone in pairs.values()]
            lower = {task: lower_is_better(measures[task]) for task in pairs}
            deltas[split] = estimate(functools.partial(_delta, lower), groups)
    return deltas or None


def _delta(lower: Mapping[str, bool], means_G: Sequence[float]) -> float:
    """Δ_MTL of the tasks' figures, followed by those of the single-task runs."""
    half = len(lower)
    return delta_mtl(
        dict(zip(lower, means_G[:half], strict=True)), dict(zip(lower, means_G[half:], strict=True)), lower
    )


def curves_of(plan: StudyPlan, outcomes: Sequence[CellOutcome]) -> Curves:
    """Training loss and validation loss of every task in every arm, over the runs that are done."""
    done = {(outcome.arm, outcome.seed) for outcome in outcomes if outcome.state == "done"}
    by_title: dict[str, dict[str, dict[str, list[Series]]]] = {}
    for arm in plan.arms:
        for cell in plan.cells:
            if cell.arm == arm and (cell.arm, cell.seed) in done:
                for title, task, series in _series_of(cell):
                    by_title.setdefault(title, {}).setdefault(task, {}).setdefault(arm, []).append(series)
    curves: Curves = {}
    for title, tasks in sorted(by_title.items()):
        for task, arms in tasks.items():
            bands = {arm: band(of_seeds) for arm, of_seeds in arms.items()}
            if drawn := {arm: curve for arm, curve in bands.items() if len(curve.step_P) > 1}:
                curves.setdefault(title, {})[task] = drawn
    return curves


def _series_of(cell: StudyCell) -> list[tuple[str, str, Series]]:
    """What is drawn of a run: title, task, curve."""
    log = read_log(cell.folder)
    keys = read_keys(log, "evaluate")
    drawn = []
    for task in cell.recipe.tasks:
        training = read_series(log, "train", f"{task}/loss")
        if len(training) > _NOISY:
            training = smoothed(training, half_life=max(1.5, len(training) / 40))
        drawn.append(("Training loss", task, training))
        split = next((name for name in ("val", "train") if f"{task}/{name}/loss" in keys), "val")
        drawn.append(("Validation loss", task, read_series(log, "evaluate", f"{task}/{split}/loss")))
    return [(title, task, series.at(series.finite_N)) for title, task, series in drawn if series.finite_N.sum() > 1]


def band(curves: Sequence[Series]) -> CurveBand:
    """Mean and extremes of several curves, between points where they have none, over the steps that all have."""
    first, last = max(curve.step_N[0] for curve in curves), min(curve.step_N[-1] for curve in curves)
    steps = np.unique(np.concatenate([curve.step_N for curve in curves]))
    step_P = steps[(steps >= first) & (steps <= last)]
    if len(step_P) > _POINTS:
        step_P = np.linspace(first, last, _POINTS)
    value_SP = np.stack([np.interp(step_P, curve.step_N, curve.value_N) for curve in curves])
    return CurveBand(step_P=step_P, mean_P=value_SP.mean(0), low_P=value_SP.min(0), high_P=value_SP.max(0))
