"""The command that measures interference."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from uniperceiver.cli.options import arg
from uniperceiver.cli.output import check_json
from uniperceiver.cli.process import settle_for_run
from uniperceiver.cli.runs import DeviceOfRecipe, FiguresTo, OtherData, Run, SplitName, StepOfRun, Trust
from uniperceiver.waiting import bars

if TYPE_CHECKING:
    from uniperceiver.interference.records import Interference

_SHOWN = 3  # groups of parameters with a table of their own
_CAPTION = "row: the task that is affected, column: the task that steps; above 0 helps, below 0 hurts; 95 % interval"


def interference(
    run: Run,
    *,
    task: Annotated[list[str] | None, arg("tasks to compare (default: all)", action="extend", metavar="NAME")] = None,
    batches: Annotated[int | None, arg("batches of each task (default: 100, or as many as there are)")] = None,
    batch: Annotated[int | None, arg("samples of a batch (default: as in training)", metavar="SAMPLES")] = None,
    parameters: Annotated[
        str | None,
        arg(
            "a parameter's name or the beginning of one, * for any part (default: every second FFN matrix)",
            metavar="PATTERN",
        ),
    ] = None,
    step: StepOfRun = None,
    split: Annotated[SplitName, arg("default: %(default)s")] = "train",
    data: OtherData = None,
    trust: Trust = False,
    finite_differences: Annotated[bool, arg("take the steps, in float64; slow")] = False,
    device: DeviceOfRecipe = None,
    json: Annotated[Path | None, arg("write the matrices to a file", metavar="FILE")] = None,
    figures: FiguresTo = None,
) -> int | None:
    """Measure which task of a run helps or hurts which, by gradients."""
    from functools import partial

    from uniperceiver.config import InterferenceConfig
    from uniperceiver.interference.records import as_values
    from uniperceiver.runs.folder import is_run_recipe
    from uniperceiver.runs.interference.of_run import InterferenceSettings, interference_of_run, keep_in_run
    from uniperceiver.runs.steps import read_step
    from uniperceiver.strict import to_json

    check_json(json, "--json", {"tasks", "layers"})
    settle_for_run(run, data, trust=trust)
    with bars() as shown:
        settings = InterferenceSettings(
            parameters=parameters or InterferenceConfig().parameters,
            batches=batches,
            batch=batch,
            tasks=tuple(task or ()),
            step=read_step(step),
            split=split,
            by_steps=finite_differences,
            device=device,
            on_batch=partial(shown.move, "measuring"),
        )
        measured = interference_of_run(run, settings, data)
    if json is not None:
        json.write_text(to_json(as_values(measured), indent=1) + "\n", encoding="utf-8")
    _print(measured)
    if figures is not None:
        from uniperceiver.report.figures import save_figures
        from uniperceiver.report.run.figures import interference_figures

        save_figures(interference_figures(measured), figures)
    if is_run_recipe(run / "recipe.yaml"):
        for path in keep_in_run(run, measured):
            print(path)
    return None


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
