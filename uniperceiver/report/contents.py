"""What a report of a run is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uniperceiver.evaluation.examples import Example

Metrics = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class GateFigures:
    """What one gate decided for the tokens of one modality of a task."""

    task: str
    side: str  # "input" or "candidate"
    kind: str  # "visual" or "text"
    layer: int
    part: str  # "attention" or "ffn"
    gate: int  # of the part's gates
    tokens: int
    load: Sequence[float]  # each expert's share of the assignments
    weight: Sequence[float]  # each expert's mean weight
    drop_rate: float  # share of the assignments for which the expert had no room
    unserved: float  # share of the tokens that no expert computed
    entropy: float  # mean entropy of a token's probabilities, in nats
    top1: float  # mean probability of a token's likeliest expert


@dataclass(frozen=True, kw_only=True)
class Experts:
    """How a model chooses its experts, and what it chose on some samples of each task."""

    condition: str  # the name of the routing
    experts: int
    k: int  # experts of a token
    figures: Sequence[GateFigures] = ()  # none where nothing is decided, as each task has its own copy


@dataclass(frozen=True, kw_only=True)
class InterferenceLayer:
    """Who helps and who hurts whom in one group of parameters.

    Each table is tasks x tasks: rows are the affected tasks, columns the tasks that take the step. None stands for what
    cannot be measured: a task that does not reach these parameters, or whose own step does not lower its loss.
    """

    name: str  # "encoder.blocks.3.ffn.linear2.weight"
    layer: int | None  # depth; None: not in one layer
    matrix: tuple[tuple[float | None, ...], ...]  # change of the loss by the step, relative to the own task's step
    low: tuple[tuple[float | None, ...], ...]  # ends of the 95 % interval; all None where none was asked for
    high: tuple[tuple[float | None, ...], ...]
    matrix_mean_of_ratios: tuple[tuple[float | None, ...], ...]
    cosine: tuple[tuple[float | None, ...], ...]  # mean cosine between the gradients
    conflict_rate: tuple[tuple[float | None, ...], ...]  # share of the pairs of gradients with a negative cosine


@dataclass(frozen=True, kw_only=True)
class Interference:
    """One measurement of interference."""

    step: int  # training steps done
    tasks: tuple[str, ...]
    parameters: str  # the pattern by which parameters were chosen
    batches: int  # per task
    layers: tuple[InterferenceLayer, ...]


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
