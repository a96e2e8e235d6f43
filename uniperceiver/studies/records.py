"""What has come of a study, as records: study.json is made of them, and so is its page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class SeedSpread:
    """A figure over seeds."""

    mean: float
    error: float  # standard error; NaN with one seed
    seeds: Mapping[int, float]  # each seed's figure


@dataclass(frozen=True, kw_only=True)
class SeedEstimate:
    """A figure that comes of the seeds of several arms."""

    value: float
    error: float  # standard error; NaN where it cannot be said, as with one seed
    paired: bool  # whether the arms had the same seeds, which were then paired by number
    freedom: float = float("nan")  # degrees of freedom of the error: seeds - 1 where they are paired


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """A metric of a task on a split, in all arms that have it."""

    task: str
    split: str
    metric: str
    lower: bool  # whether lower is better
    first: bool  # whether it is the one that the task is judged by first
    arms: Mapping[str, SeedSpread]
    gap: SeedEstimate | None = None  # reference minus baseline; None: the study names no such arms
    is_gap: bool = False  # whether that is more than `gap_limit` standard errors
    closed: Mapping[str, SeedEstimate] | None = None  # share of the gap that the other arms close; None: no gap
    differences: Mapping[str, SeedEstimate] | None = None  # arm minus baseline, of the others; None: no baseline has it


@dataclass(frozen=True, kw_only=True)
class StudyArm:
    """What an arm is, and what it cost."""

    name: str
    keys: Mapping[str, str]  # of the recipe, as on the command line
    done: Sequence[int]  # seeds
    failed: Sequence[int]
    parameters: int | None = None
    step_seconds: SeedSpread | None = None
    time_ratio: SeedEstimate | None = None  # training seconds per step, relative to the baseline's
    delta: Mapping[str, SeedEstimate] | None = None  # Δ_MTL by split; None: no single-task runs to compare with


@dataclass(frozen=True, kw_only=True)
class FailedCell:
    """A cell that failed."""

    arm: str
    seed: int
    why: str
    last_lines: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class CurveBand:
    """A learning curve of an arm: P steps, mean and extremes over the seeds."""

    step_P: np.ndarray
    mean_P: np.ndarray
    low_P: np.ndarray
    high_P: np.ndarray


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """Everything that has come of a study so far."""

    title: str
    facts: Mapping[str, str]
    study: str  # YAML
    arms: Sequence[StudyArm]
    rows: Sequence[MetricRow]
    failures: Sequence[FailedCell] = ()
    # what is drawn ("training loss", "val accuracy@1") -> task -> arm -> curve
    curves: Mapping[str, Mapping[str, Mapping[str, CurveBand]]] | None = None
    baseline: str | None = None
    reference: str | None = None
