"""Commands that read the data of a recipe."""

import argparse
from pathlib import Path
from typing import Any

from uniperceiver.cli.output import print_json

_FAULTS = 1  # exit code of a check that found some


def data_check(options: argparse.Namespace) -> int | None:
    """Read every sample of a recipe once, and name what is broken."""
    from dataclasses import asdict

    from uniperceiver.config import read_overrides, read_recipe
    from uniperceiver.data.prepare import check as checking

    path = Path(options.recipe)
    recipe = read_recipe(path, read_overrides(options.overrides))
    report = checking.check_data(recipe, path.parent, checking.workers_of(options.workers))
    if options.json:
        print_json(asdict(report))
    else:
        print("\n".join(checking.as_text(report)))
    return None if report.clean else _FAULTS


def data_prepare(options: argparse.Namespace) -> int | None:
    """Write the data of a recipe as shards of small pictures and clips, and a recipe that reads them."""
    from uniperceiver.data.prepare import prepare as preparing
    from uniperceiver.data.prepare.check import workers_of

    prepared = preparing.prepare_data(
        Path(options.recipe), options.overrides, Path(options.out), workers_of(options.workers)
    )
    print("\n".join(preparing.as_text(prepared)))
    return None


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
