"""INTERFERENCE as a record: for JSON, for the report, for TensorBoard."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uniperceiver.errors import UserError
from uniperceiver.interference.estimate import InterferenceEstimate
from uniperceiver.interference.groups import ParameterGroup
from uniperceiver.strict import to_json

FOLDER = "interference"
EVENT = "interference"  # of log.jsonl

# Each table of an estimate: its key in JSON -> its field, in the order of the file.
_TABLES = {
    "matrix": "matrix_KK",
    "low": "low_KK",
    "high": "high_KK",
    "matrix_mean_of_ratios": "mean_of_ratios_KK",
    "cosine": "cosine_KK",
    "conflict_rate": "conflict_rate_KK",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class InterferenceLayer:
    """Holds who helps and who hurts whom in one group of parameters.

    In every table row i is the affected task, column j the task that takes the step; NaN: not measurable.
    """

    name: str  # "encoder.blocks.3.ffn.linear2.weight"
    layer: int | None  # depth; None: not in one layer
    estimate: InterferenceEstimate


@dataclass(frozen=True, kw_only=True, eq=False)
class Interference:
    """Holds one measurement of interference."""

    step: int  # training steps done
    tasks: tuple[str, ...]
    parameters: str  # the pattern by which parameters were chosen
    batches: int  # per task
    layers: tuple[InterferenceLayer, ...]


def as_record(
    estimates: Mapping[ParameterGroup, InterferenceEstimate],
    *,
    step: int,
    tasks: Sequence[str],
    parameters: str,
    batches: int,
) -> Interference:
    """Put the estimates of several groups of parameters together as one measurement.

    Args:
        step: training steps of the weights.
        parameters: the pattern that chose the groups.
        batches: of each task.
    """
    layers = (
        InterferenceLayer(name=group.name, layer=group.layer, estimate=estimate)
        for group, estimate in estimates.items()
    )
    return Interference(step=step, tasks=tuple(tasks), parameters=parameters, batches=batches, layers=tuple(layers))


def scalars(measured: Interference) -> dict[str, float]:
    """Name the numbers of a measurement for TensorBoard: "interference/LAYER/AFFECTED<-STEPPING" -> value.

    The diagonal, which is 1 by definition, and what was not measured are left out.
    """
    return {
        f"interference/{layer.name}/{affected}<-{stepping}": float(layer.estimate.matrix_KK[row, column])
        for layer in measured.layers
        for row, affected in enumerate(measured.tasks)
        for column, stepping in enumerate(measured.tasks)
        if row != column and math.isfinite(layer.estimate.matrix_KK[row, column])
    }


def as_values(measured: Interference) -> dict[str, Any]:
    """Turn a measurement into values for JSON: {"step", "tasks", ..., "layers": [{"name", "matrix", ...}]}."""
    return {
        "step": measured.step,
        "tasks": measured.tasks,
        "parameters": measured.parameters,
        "batches": measured.batches,
        "layers": [
            {"name": layer.name, "layer": layer.layer}
            | {
                key: [
                    [float(value) if math.isfinite(value) else None for value in value_K]
                    for value_K in getattr(layer.estimate, field)
                ]
                for key, field in _TABLES.items()
            }
            for layer in measured.layers
        ],
    }


def from_values(values: Mapping[str, Any]) -> Interference:
    """Restore what `as_values` was made of.

    Raises:
        KeyError, TypeError, ValueError: it is something else.
    """
    tasks = tuple(values["tasks"])
    shape = (len(tasks), len(tasks))
    layers = (
        InterferenceLayer(
            name=layer["name"],
            layer=layer["layer"],
            estimate=InterferenceEstimate(
                **{
                    field: np.array(layer[key], dtype=np.float64).reshape(shape)  # None becomes NaN
                    for key, field in _TABLES.items()
                }
            ),
        )
        for layer in values["layers"]
    )
    return Interference(
        step=values["step"],
        tasks=tasks,
        parameters=values["parameters"],
        batches=values["batches"],
        layers=tuple(layers),
    )


def write_measurement(run: Path, measured: Interference) -> Path:
    """Keep a measurement in the run's folder, in place of an earlier measurement of the same step."""
    path = run / FOLDER / f"step-{measured.step:06d}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(to_json(as_values(measured), indent=1) + "\n", encoding="utf-8")
    return path


def read_measurements(run: Path, log: Sequence[Mapping[str, Any]]) -> list[Interference]:
    """All measurements of a run: those of its training log, and those in files, which replace these of their step.

    Raises:
        UserError: a file holds something else.
    """
    measurements = {line["step"]: from_values(line) for line in log if line["event"] == EVENT}
    for path in sorted((run / FOLDER).glob("step-*.json")):
        try:
            measured = from_values(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path}: no measurement of interference; remove the file, or measure again") from None
        measurements[measured.step] = measured
    return [measurements[step] for step in sorted(measurements)]
