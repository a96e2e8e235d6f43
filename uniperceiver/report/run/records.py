"""What a report of a run is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from uniperceiver.data.lengths import SplitFacts
from uniperceiver.evaluation.examples import Example
from uniperceiver.evaluation.experts import Experts
from uniperceiver.evaluation.predictions import ClassPrecision, ClassTable
from uniperceiver.interference.records import Interference
from uniperceiver.report.parts.colours import tone_of
from uniperceiver.report.parts.numbers import MetricValue, metric_names, metric_value

Metrics = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """Holds everything that the page shows."""

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)  # "parameters" -> "1.1 M"
    recipe: str = ""  # YAML
    log: Sequence[Mapping[str, Any]] = ()  # lines of log.jsonl
    results: Mapping[str, Mapping[str, Metrics]] = field(default_factory=dict)  # task -> split -> metric -> value
    main_metrics: Mapping[str, str] = field(default_factory=dict)  # task -> the metric by which it is judged first
    classes: Mapping[str, Mapping[str, ClassTable]] = field(
        default_factory=dict
    )  # task -> split, of tasks with classes
    precision: Mapping[str, Mapping[str, ClassPrecision]] = field(
        default_factory=dict
    )  # task -> split, of tasks that find things
    examples: Sequence[Example] = ()
    explained: Mapping[str, str] = field(default_factory=dict)  # task -> what its examples show
    data: Sequence[SplitFacts] = ()
    experts: Experts | None = None  # None: a dense model
    interference: Sequence[Interference] = ()  # measurements, in any order

    @property
    def tasks(self) -> list[str]:
        """All tasks that have metrics, or else examples or measurements of interference, in order."""
        measured = (task for measurement in self.interference for task in measurement.tasks)
        examples = (example.task for example in self.examples)
        return list(dict.fromkeys([*self.results, *self.main_metrics, *examples, *measured]))

    def tone(self, task: str) -> int:
        """Find the place of a task's colour in the palette, the same wherever the task is shown."""
        return tone_of(self.tasks, task)

    def main_metric(self, task: str, metrics: Metrics) -> str:
        """Choose the task's main metric, or else its first."""
        main = self.main_metrics.get(task, "")
        return main if main in metrics else next(iter(metric_names(metrics)), main)

    def main_value(self, task: str, metrics: Metrics) -> MetricValue:
        """Pick the task's main metric with its interval and chance."""
        main = self.main_metric(task, metrics)
        return metric_value(metrics, main, main)
