"""INTERFERENCE as tables on the console, and in a run's report and TensorBoard."""

import json
import math
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from uniperceiver.errors import UserError
from uniperceiver.interference.records import Interference, InterferenceLayer, write_measurement
from uniperceiver.report.interference_image import heat_map_image, scalars
from uniperceiver.runs.report import write_report
from uniperceiver.training.log import show_in_tensorboard

_SHOWN = 3  # layers with a table of their own


def print_interference(measured: Interference) -> None:
    """A table of the first, a middle and the last group of parameters."""
    console = Console(width=max(Console().width, 100))
    for each in _evenly(measured.layers):
        console.print(_table(measured.tasks, each))
    if len(measured.layers) > _SHOWN:
        console.print(f"{len(measured.layers)} groups were measured; the others are in the report and in --json FILE")


def _evenly(layers: tuple[InterferenceLayer, ...]) -> list[InterferenceLayer]:
    last = len(layers) - 1
    return [layers[place] for place in sorted({0, last // 2, last})]


def _table(tasks: tuple[str, ...], layer: InterferenceLayer) -> Table:
    caption = "row: the task that is affected, column: the task that steps; above 0 helps, below 0 hurts; 95 % interval"
    table = Table("", *tasks, box=SIMPLE, pad_edge=False, title=layer.name, caption=caption)
    estimate = layer.estimate
    for task, *values in zip(tasks, estimate.matrix_KK, estimate.low_KK, estimate.high_KK, strict=True):
        table.add_row(task, *map(_cell, *values))
    return table


def _cell(value: float, low: float, high: float) -> Text:
    """The value, with its interval; bold where that excludes 0."""
    if math.isnan(value):
        return Text("not measurable", style="dim")
    if math.isnan(low) or math.isnan(high):
        return Text(f"{value:.2f}")
    clear = low > 0 or high < 0
    return Text(f"{value:.2f}  ({low:.2f} to {high:.2f})", style="bold" if clear else "")


def keep_in_run(run: Path, measured: Interference) -> list[Path]:
    """Write a measurement into a run's folder, its report and its TensorBoard; the files that were written."""
    written = [write_measurement(run, measured)]
    show_in_tensorboard(run, measured.step, scalars(measured), {"interference": heat_map_image(measured)})
    results = run / "results.json"
    if results.is_file():
        try:
            figures = json.loads(results.read_text(encoding="utf-8"))
        except ValueError:
            raise UserError(f"{results}: no JSON; renew it with uniperceiver evaluate {run} --json {results}") from None
        written.append(write_report(run, figures))
    return written
