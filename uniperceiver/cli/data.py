"""Commands that read the data of a recipe."""

import os
from pathlib import Path
from typing import Annotated

from uniperceiver.cli.options import arg
from uniperceiver.cli.output import print_json
from uniperceiver.cli.runs import AsJson
from uniperceiver.errors import UserError

_FAULTS = 1  # exit code of a check that found some

RecipeFile = Annotated[Path, arg(metavar="RECIPE.yaml")]
Overrides = Annotated[list[str], arg("a key of the recipe, e.g. data.max_broken=0", nargs="*", metavar="key=value")]
Workers = Annotated[int | None, arg("processes (default: as many as there are cores)", metavar="N")]


def data_check(
    recipe: RecipeFile, overrides: Overrides, *, workers: Workers = None, json: AsJson = False
) -> int | None:
    """Read every sample once: sizes, classes, lengths of texts, and what is broken (exit code 1)."""
    from dataclasses import asdict

    from uniperceiver.cli.data_lines import check_lines
    from uniperceiver.config import read_overrides, read_recipe
    from uniperceiver.data.prepare.check import check_data
    from uniperceiver.serving.locate import model_folder

    checked = read_recipe(recipe, read_overrides(overrides))
    report = check_data(checked, recipe.parent, processes(workers), find_model=model_folder)
    if json:
        print_json(asdict(report))
    else:
        print("\n".join(check_lines(report)))
    return None if report.clean else _FAULTS


def data_prepare(
    recipe: RecipeFile,
    overrides: Overrides,
    *,
    out: Annotated[Path, arg("folder of the shards and their recipe.yaml", metavar="DIR")],
    workers: Workers = None,
) -> int | None:
    """Write the data as shards of small pictures and clips, which are read fast; goes on where it was stopped."""
    from uniperceiver.cli.data_lines import prepared_lines
    from uniperceiver.data.prepare.prepare import prepare_data

    print("\n".join(prepared_lines(prepare_data(recipe, overrides, out, processes(workers)))))
    return None


def processes(workers: int | None) -> int:
    """How many processes read: as many as `--workers` says, or as there are cores.

    Raises:
        UserError: not a number of processes.
    """
    if workers is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers < 0:
        raise UserError(f"--workers: {workers} is no number of processes; give 1 or more, or 0 to read in this one")
    return workers
