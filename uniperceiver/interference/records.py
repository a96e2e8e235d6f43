"""INTERFERENCE as plain records: for JSON, for the report, for TensorBoard."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from uniperceiver.errors import UserError
from uniperceiver.interference.estimate import InterferenceEstimate
from uniperceiver.interference.groups import ParameterGroup
from uniperceiver.report.contents import Interference, InterferenceLayer
from uniperceiver.strict import to_json

FOLDER = "interference"
EVENT = "interference"  # of log.jsonl

Table = tuple[tuple[float | None, ...], ...]


def as_record(
    estimates: Mapping[ParameterGroup, InterferenceEstimate],
    *,
    step: int,
    tasks: Sequence[str],
    parameters: str,
    batches: int,
) -> Interference:
    """A measurement of several groups of parameters.

    Args:
        step: training steps of the weights.
        parameters: the pattern that chose the groups.
        batches: of each task.
    """
    return Interference(
        step=step,
        tasks=tuple(tasks),
        parameters=parameters,
        batches=batches,
        layers=tuple(_layer(group, each) for group, each in estimates.items()),
    )


def _layer(group: ParameterGroup, found: InterferenceEstimate) -> InterferenceLayer:
    return InterferenceLayer(
        name=group.name,
        layer=group.layer,
        matrix=_table(found.matrix_KK),
        low=_table(found.low_KK),
        high=_table(found.high_KK),
        matrix_mean_of_ratios=_table(found.mean_of_ratios_KK),
        cosine=_table(found.cosine_KK),
        conflict_rate=_table(found.conflict_rate_KK),
    )


def _table(value_KK: np.ndarray) -> Table:
    return tuple(tuple(float(each) if math.isfinite(each) else None for each in row) for row in value_KK)


def as_values(measured: Interference) -> dict[str, Any]:
    """A measurement for JSON: {"step", "tasks", "parameters", "batches", "layers": [{"name", "matrix", ...}]}."""
    return asdict(measured)


def from_values(values: Mapping[str, Any]) -> Interference:
    """What `as_values` was made of.

    Raises:
        KeyError, TypeError: it is something else.
    """
    tables = {each.name for each in fields(InterferenceLayer)} - {"name", "layer"}
    layers = tuple(
        InterferenceLayer(
            name=each["name"],
            layer=each["layer"],
            **{name: tuple(tuple(row) for row in each[name]) for name in sorted(tables)},
        )
        for each in values["layers"]
    )
    return Interference(
        step=values["step"],
        tasks=tuple(values["tasks"]),
        parameters=values["parameters"],
        batches=values["batches"],
        layers=layers,
    )


def write_measurement(run: Path, measured: Interference) -> Path:
    """Keep a measurement in the run's folder, in place of an earlier one of the same step."""
    path = run / FOLDER / f"step-{measured.step:06d}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(to_json(as_values(measured), indent=1) + "\n", encoding="utf-8")
    return path


def read_measurements(run: Path, log: Sequence[Mapping[str, Any]]) -> list[Interference]:
    """All measurements of a run: those of its training log, and those in files, which replace these of their step.

    Raises:
        UserError: a file holds something else.
    """
    found = {line["step"]: from_values(line) for line in log if line["event"] == EVENT}
    for path in sorted((run / FOLDER).glob("step-*.json")):
        try:
            one = from_values(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path}: no measurement of interference; remove the file, or measure again") from None
        found[one.step] = one
    return [found[step] for step in sorted(found)]
