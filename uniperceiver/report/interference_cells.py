"""Interference cell by cell: one affected task, one task that takes a step, one group of parameters."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uniperceiver.interference.records import Interference, InterferenceLayer
from uniperceiver.report.markup import shortened
from uniperceiver.report.numbers import finite

MINUS = "\u2212"
_POWER = 0.6  # of colours: small effects are seen as well
_OUTSIDE = ""  # the kind of all parameters that are not in one layer


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What the step of one task does to another; None: not measured."""

    affected: str
    stepping: str
    own: bool  # both are the same task
    value: float | None
    low: float | None
    high: float | None
    mean_of_ratios: float | None
    cosine: float | None
    conflict_rate: float | None

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def rows_of(tasks: Sequence[str], layer: InterferenceLayer) -> list[list[Cell]]:
    """All cells: a row for each affected task."""
    places = range(len(tasks))
    return [[_cell(tasks, layer, row, column) for column in places] for row in places]


def cell_of(measured: Interference, name: str, affected: str, stepping: str) -> Cell | None:
    """The cell of a group of parameters; None where the measurement has no such group or task."""
    layer = next((each for each in measured.layers if each.name == name), None)
    if layer is None or not {affected, stepping} <= set(measured.tasks):
        return None
    return _cell(measured.tasks, layer, measured.tasks.index(affected), measured.tasks.index(stepping))


def kinds_of(measured: Interference) -> dict[str, list[InterferenceLayer]]:
    """The same parameters of different layers, by depth: "encoder.blocks.*.ffn.linear2.weight" -> its layers."""
    kinds: dict[str, list[InterferenceLayer]] = {}
    for each in measured.layers:
        kinds.setdefault(_kind(each), []).append(each)
    return {kind: sorted(layers, key=lambda each: each.layer or 0) for kind, layers in kinds.items()}


def signed(value: float | None) -> str:
    """+0.32, −0.08, 0.00, +14, −2e+03; a dash for what was not measured."""
    if value is None:
        return "–"
    size = abs(value)
    text = f"{size:.0e}" if size >= 999.5 else f"{size:.0f}" if size >= 9.995 else f"{size:.2f}"
    if not text.strip("0."):
        return text
    return f"{MINUS if value < 0 else '+'}{text}"


def written_in(cell: Cell) -> str:
    """What stands in the square of a cell: its value, of the own step 1 by definition."""
    return "1" if cell.own and cell.value is not None and abs(cell.value - 1) < 1e-6 else signed(cell.value)


def strength(value: float) -> float:
    """How strong the colour of a value is: 0 to 1, which is the own task's step or more."""
    return float(min(abs(value), 1.0) ** _POWER)


def short_names(names: Sequence[str], most: int) -> list[str]:
    """The names in at most so many characters, no two alike that were not."""
    short = [shortened(name, most) for name in names]
    half = (most - 1) // 2
    return [
        one if short.count(one) == 1 or len(name) <= most else f"{name[: most - 1 - half]}…{name[-half:]}"
        for one, name in zip(short, names, strict=True)
    ]


def _kind(layer: InterferenceLayer) -> str:
    if layer.layer is None:
        return _OUTSIDE
    return re.sub(rf"(?<!\w){layer.layer}(?!\w)", "*", layer.name, count=1)


def _cell(tasks: Sequence[str], layer: InterferenceLayer, row: int, column: int) -> Cell:
    estimate = layer.estimate

    def at(value_KK: np.ndarray) -> float | None:
        return finite(float(value_KK[row, column]))

    return Cell(
        affected=tasks[row],
        stepping=tasks[column],
        own=row == column,
        value=at(estimate.matrix_KK),
        low=at(estimate.low_KK),
        high=at(estimate.high_KK),
        mean_of_ratios=at(estimate.mean_of_ratios_KK),
        cosine=at(estimate.cosine_KK),
        conflict_rate=at(estimate.conflict_rate_KK),
    )
