"""The command that measures interference."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from uniperceiver.cli.process import settle_for_run
from uniperceiver.errors import UserError

if TYPE_CHECKING:
    from uniperceiver.interference.records import Interference


def add_interference(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--task", nargs="+", action="extend", metavar="NAME", help="tasks to compare (default: all)")
    parser.add_argument("--batches", type=int, help="batches of each task (default: 100, or as many as there are)")
    parser.add_argument("--batch", type=int, metavar="SAMPLES", help="samples of a batch (default: as in training)")
    parser.add_argument(
        "--parameters",
        metavar="PATTERN",
        help="a parameter's name or the beginning of one, * for any part (default: every second FFN matrix)",
    )
    parser.add_argument("--step", type=int, help="measure the checkpoint of this step (default: the run's model)")
    parser.add_argument("--split", choices=["train", "val", "test"], default="train", help="default: %(default)s")
    parser.add_argument("--data", metavar="RECIPE.yaml", help="use the data of this recipe instead of the run's")
    parser.add_argument("--finite-differences", action="store_true", help="take the steps, in float64; slow")
    parser.add_argument("--device", help="cpu, cuda, ... (default: as the recipe says)")
    parser.add_argument("--json", metavar="FILE", help="write the matrices to a file")


def interference(options: argparse.Namespace) -> int | None:
    """Measure which task of a run helps or hurts which."""
    from rich.console import Console
    from rich.progress import Progress

    from uniperceiver.config import InterferenceConfig
    from uniperceiver.interference.records import as_values
    from uniperceiver.runs.interference import InterferenceSettings, interference_of_run, keep_in_run
    from uniperceiver.strict import to_json

    if options.json and not Path(options.json).parent.is_dir():
        raise UserError(f"--json: there is no folder {Path(options.json).parent}; make it first")
    if options.json and Path(options.json).is_dir():
        raise UserError(f"--json: {options.json} is a folder; name a file in it")
    if options.batch is not None and options.batch < 1:
        raise UserError(f"--batch: {options.batch} is no number of samples; give 1 or more")
    run, data = Path(options.run), options.data and Path(options.data)
    settle_for_run(run, data)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("measuring", total=None)
        settings = InterferenceSettings(
            parameters=options.parameters or InterferenceConfig().parameters,
            batches=options.batches,
            batch=options.batch,
            tasks=tuple(options.task or ()),
            step=options.step,
            split=options.split,
            by_steps=options.finite_differences,
            device=options.device,
            on_batch=lambda done, total: progress.update(bar, completed=done, total=total),
        )
        measured = interference_of_run(run, settings, data)
    if options.json:
        Path(options.json).write_text(to_json(as_values(measured), indent=1) + "\n", encoding="utf-8")
    _print(measured)
    if (run / "recipe.yaml").is_file():
        for path in keep_in_run(run, measured):
            print(path)
    return None


_SHOWN = 3  # groups of parameters with a table of their own
_CAPTION = "row: the task that is affected, column: the task that steps; above 0 helps, below 0 hurts; 95 % interval"


def _print(measured: "Interference") -> None:
    """Print a table of the first, a middle and the last group of parameters; intervals that exclude 0 are bold."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def cell(value: float, low: float, high: float) -> Text:
        if math.isnan(value):
            return Text("not measurable", style="dim")
        if math.isnan(low) or math.isnan(high):
            return Text(f"{value:.2f}")
        return Text(f"{value:.2f}  ({low:.2f} to {high:.2f})", style="bold" if low > 0 or high < 0 else "")

    console = Console(width=max(Console().width, 100))
    last = len(measured.layers) - 1
    for layer in [measured.layers[index] for index in sorted({0, last // 2, last})]:
        table = Table("", *measured.tasks, box=SIMPLE, pad_edge=False, title=layer.name, caption=_CAPTION)
        estimate = layer.estimate
        for task, *row in zip(measured.tasks, estimate.matrix_KK, estimate.low_KK, estimate.high_KK, strict=True):
            table.add_row(task, *map(cell, *row))
        console.print(table)
    if len(measured.layers) > _SHOWN:
        console.print(f"{len(measured.layers)} groups were measured; the others are in the report and in --json FILE")
