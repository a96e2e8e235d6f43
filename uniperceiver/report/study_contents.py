"""What the report of a study is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A figure over seeds."""

    mean: float
    error: float  # standard error; NaN with one seed
    seeds: Mapping[int, float]  # each seed's figure


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A figure that comes of several arms."""

    value: float
    error: float  # standard error; NaN where it cannot be said
    paired: bool  # whether the arms had the same seeds, which were then paired by number


@dataclass(frozen=True, kw_only=True)
class Row:
    """A metric of a task on a split, in all arms that have it."""

    task: str
    split: str
    metric: str
    lower: bool  # whether lower is better
    first: bool  # whether it is the one that the task is judged by first
    arms: Mapping[str, Spread]
    gap: Compared | None = None  # reference minus baseline; None: the study names no such arms
    is_gap: bool = False  # whether that is more than 2 standard errors
    closed: Mapping[str, Compared] | None = None  # share of the gap that the other arms close; None: no gap


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What an arm is, and what it cost."""

    name: str
    keys: Mapping[str, str]  # of the recipe, as on the command line
    done: Sequence[int]  # seeds
    failed: Sequence[int]
    parameters: int | None = None
    step_seconds: Spread | None = None
    time_ratio: Compared | None = None  # training seconds per step, relative to the baseline's
    delta: Mapping[str, Compared] | None = None  # Δ_MTL by split; None: no single-task runs to compare with


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A cell that failed."""

    arm: str
    seed: int
    why: str
    last_lines: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Band:
    """A learning curve of an arm: P steps, mean and extremes over the seeds."""

    step_P: np.ndarray
    mean_P: np.ndarray
    low_P: np.ndarray
    high_P: np.ndarray


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """Everything that the page shows."""

    title: str
    facts: Mapping[str, str]
    study: str  # YAML
    arms: Sequence[Arm]
    rows: Sequence[Row]
    failures: Sequence[Failure] = ()
    # what is drawn ("training loss", "val accuracy@1") -> task -> arm -> curve
    curves: Mapping[str, Mapping[str, Mapping[str, Band]]] | None = None
    baseline: str | None = None
    reference: str | None = None
