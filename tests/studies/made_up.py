"""A study that never was, for the tests of its report."""

import math
from typing import Any

import numpy as np

from uniperceiver.studies.records import (
    CurveBand,
    FailedCell,
    MetricRow,
    SeedEstimate,
    SeedSpread,
    StudyArm,
    StudyReport,
)

ARMS = ("shared", "task_specific", "modality", "task", "attribute", "token")
METRICS = {"shapes": "accuracy@1", "words": "loss", "captions": "cider_d"}


def a_spread(mean: float, *, seeds: int = 3) -> SeedSpread:
    """Three seeds around a mean."""
    return SeedSpread(
        mean=mean, error=0.02 * mean, seeds={seed: mean * (1 + 0.02 * (seed - 1)) for seed in range(seeds)}
    )


def a_row(task: str, split: str, *, gap: bool) -> MetricRow:
    """A task's first metric, with or without a gap."""
    metric = METRICS[task]
    means = {arm: 0.4 + 0.07 * index for index, arm in enumerate(ARMS)}
    others = {arm: SeedEstimate(value=0.1 * index, error=0.05, paired=True) for index, arm in enumerate(ARMS[2:])}
    return MetricRow(
        task=task,
        split=split,
        metric=metric,
        lower=metric == "loss",
        first=True,
        arms={arm: a_spread(mean) for arm, mean in means.items()},
        gap=SeedEstimate(value=0.07, error=0.02 if gap else 0.05, paired=True),
        is_gap=gap,
        closed=others if gap else None,
    )


def a_band(level: float) -> CurveBand:
    """A loss that falls."""
    step_P = np.linspace(20, 4000, 40)
    mean_P = level + 2 * np.exp(-step_P / 900)
    return CurveBand(step_P=step_P, mean_P=mean_P, low_P=mean_P * 0.95, high_P=mean_P * 1.06)


def an_arm(name: str) -> StudyArm:
    """An arm with times and Δ_MTL, one of which cannot be said."""
    return StudyArm(
        name=name,
        keys={"moe.condition": name},
        done=(0, 1, 2),
        failed=(3,) if name == "token" else (),
        parameters=1_230_000,
        step_seconds=a_spread(0.031),
        time_ratio=SeedEstimate(value=1.3, error=0.04, paired=True),
        delta=None if name == "task_specific" else {"val": SeedEstimate(value=-0.031, error=math.nan, paired=False)},
    )


def a_study(**changes: Any) -> StudyReport:
    """A whole study: a gap in words, none in the others."""
    parts: dict[str, Any] = {
        "title": "routing",
        "facts": {"runs": "18 of 18", "steps": "4,000", "tasks": "shapes, words, captions"},
        "study": "recipe: demo.yaml\nseeds: 3\n",
        "arms": [an_arm(name) for name in ARMS],
        "rows": [a_row(task, split, gap=task == "words") for task in METRICS for split in ("train", "val")],
        "failures": [FailedCell(arm="token", seed=3, why="exit code 1", last_lines=("<b>out", "of memory"))],
        "curves": {"Training loss": {t: {arm: a_band(0.1 * i + 0.2) for i, arm in enumerate(ARMS)} for t in METRICS}},
        "baseline": "shared",
        "reference": "task_specific",
    }
    return StudyReport(**(parts | changes))
