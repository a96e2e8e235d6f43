"""What a report of a run is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uniperceiver.evaluation.examples import Example
from uniperceiver.evaluation.experts import Experts
from uniperceiver.interference.records import Interference

Metrics = Mapping[str, float]


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
    experts: Experts | None = None  # None: a dense model
    interference: Sequence[Interference] = ()  # measurements, in any order


def tasks_of(report: RunReport) -> list[str]:
    """All tasks that have figures, or else examples or measurements of interference, in order."""
    measured = (task for each in report.interference for task in each.tasks)
    examples = (each.task for each in report.examples)
    return list(dict.fromkeys([*report.results, *report.main_metrics, *examples, *measured]))
