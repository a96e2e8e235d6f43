"""What a report of a run is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Metrics = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Example:
    """One question that the model answered: what it saw, what is right, and what it said."""

    task: str
    split: str
    sample: str  # the sample's name
    frames: tuple[np.ndarray, ...] = ()  # (H, W, 3) uint8; one: an image, several: a clip, none: text only
    text: str = ""  # a text that was read
    truth: tuple[str, ...] = ()  # right answers, or the captions that people wrote
    answers: tuple[tuple[str, float | None], ...] = ()  # with probability, best first; None or NaN: without one
    right: bool | None = None  # None: not a matter of right or wrong


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """Everything that the page shows."""

    title: str
    facts: Mapping[str, str]  # "parameters" -> "1.1 M"
    recipe: str  # YAML
    log: Sequence[Mapping[str, Any]]  # lines of log.jsonl
    results: Mapping[str, Mapping[str, Metrics]]  # task -> split -> metric -> value
    main_metrics: Mapping[str, str]  # task -> the metric by which it is judged first
    examples: Sequence[Example] = ()


def tasks_of(report: RunReport) -> list[str]:
    """All tasks that have figures, or else examples, in order."""
    return list(dict.fromkeys([*report.results, *report.main_metrics, *(each.task for each in report.examples)]))
