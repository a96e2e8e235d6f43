"""Commands that read the data of a recipe."""

import argparse
import os
from pathlib import Path
from typing import Any

from uniperceiver.cli.output import print_json
from uniperceiver.errors import UserError

_FAULTS = 1  # exit code of a check that found some


def data_check(options: argparse.Namespace) -> int | None:
    """Read every sample of a recipe once, and name what is broken."""
    from dataclasses import asdict

    from uniperceiver.cli.data_lines import check_lines
    from uniperceiver.config import read_overrides, read_recipe
    from uniperceiver.data.prepare.check import check_data
    from uniperceiver.serving.locate import model_folder

    path = Path(options.recipe)
    recipe = read_recipe(path, read_overrides(options.overrides))
    report = check_data(recipe, path.parent, processes(options.workers), find_model=model_folder)
    if options.json:
        print_json(asdict(report))
    else:
        print("\n".join(check_lines(report)))
    return None if report.clean else _FAULTS


def data_prepare(options: argparse.Namespace) -> int | None:
    """Write the data of a recipe as shards of small pictures and clips, and a recipe that reads them."""
    from uniperceiver.cli.data_lines import prepared_lines
    from uniperceiver.data.prepare.prepare import prepare_data

    prepared = prepare_data(Path(options.recipe), options.overrides, Path(options.out), processes(options.workers))
    print("\n".join(prepared_lines(prepared)))
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


def add_data(one: argparse.ArgumentParser) -> None:
    """The two commands below `data`."""
    commands: Any = one.add_subparsers(title="commands", required=True, metavar="COMMAND")
    summary = "read every sample once: sizes, classes, lengths of texts, and what is broken (exit code 1)"
    check = _command(commands, "check", data_check, summary)
    check.add_argument("--json", action="store_true", help="print as JSON")
    summary = "write the data as shards of small pictures and clips, which are read fast; goes on where it was stopped"
    prepare = _command(commands, "prepare", data_prepare, summary)
    prepare.add_argument("--out", required=True, metavar="DIR", help="folder of the shards and their recipe.yaml")


def _command(commands: Any, name: str, function: Any, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    parser.set_defaults(command=function)
    parser.add_argument("recipe", metavar="RECIPE.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="a key of the recipe, e.g. data.max_broken=0")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: as many as there are cores)")
    return parser
