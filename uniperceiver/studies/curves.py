"""LOGS -> CURVES: what the runs of an arm logged while they were trained, as one curve with its extremes.

Shape suffixes: P points of a curve, S seeds.
"""

from collections.abc import Sequence

import numpy as np

from uniperceiver.report.series import Series, read_keys, read_series, smoothed
from uniperceiver.studies.cells import CellOutcome
from uniperceiver.studies.plan import StudyCell, StudyPlan
from uniperceiver.studies.records import CurveBand
from uniperceiver.training.log import read_log

_POINTS = 80  # of a curve
_NOISY = 12  # shorter curves are drawn as they are
Curves = dict[str, dict[str, dict[str, CurveBand]]]  # what is drawn -> task -> arm -> curve


def curves_of(plan: StudyPlan, outcomes: Sequence[CellOutcome]) -> Curves:
    """Training loss and validation loss of every task in every arm, over the runs that are done."""
    done = {(each.arm, each.seed) for each in outcomes if each.state == "done"}
    found: dict[str, dict[str, dict[str, list[Series]]]] = {}
    for arm in plan.arms:
        for cell in plan.cells:
            if cell.arm == arm and (cell.arm, cell.seed) in done:
                for title, task, series in _series_of(cell):
                    found.setdefault(title, {}).setdefault(task, {}).setdefault(arm, []).append(series)
    curves: Curves = {}
    for title, tasks in sorted(found.items()):
        for task, arms in tasks.items():
            bands = {arm: band(each) for arm, each in arms.items()}
            there = {arm: each for arm, each in bands.items() if len(each.step_P) > 1}
            if there:
                curves.setdefault(title, {})[task] = there
    return curves


def _series_of(cell: StudyCell) -> list[tuple[str, str, Series]]:
    """What is drawn of a run: title, task, curve."""
    log = read_log(cell.folder)
    keys = read_keys(log, "evaluate")
    found = []
    for task in cell.recipe.tasks:
        training = read_series(log, "train", f"{task}/loss")
        if len(training) > _NOISY:
            training = smoothed(training, half_life=max(1.5, len(training) / 40))
        found.append(("Training loss", task, training))
        split = next((name for name in ("val", "train") if f"{task}/{name}/loss" in keys), "val")
        found.append(("Validation loss", task, read_series(log, "evaluate", f"{task}/{split}/loss")))
    return [(title, task, series.at(series.finite_N)) for title, task, series in found if series.finite_N.sum() > 1]


def band(curves: Sequence[Series]) -> CurveBand:
    """Mean and extremes of several curves, between points where they have none, over the steps that all have."""
    first, last = max(each.step_N[0] for each in curves), min(each.step_N[-1] for each in curves)
    steps = np.unique(np.concatenate([each.step_N for each in curves]))
    step_P = steps[(steps >= first) & (steps <= last)]
    if len(step_P) > _POINTS:
        step_P = np.linspace(first, last, _POINTS)
    value_SP = np.stack([np.interp(step_P, each.step_N, each.value_N) for each in curves])
    return CurveBand(step_P=step_P, mean_P=value_SP.mean(0), low_P=value_SP.min(0), high_P=value_SP.max(0))
