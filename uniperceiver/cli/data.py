"""Commands that read the data of a recipe."""

from pathlib import Path
from typing import Annotated

from uniperceiver.cli.options import arg
from uniperceiver.cli.output import print_json
from uniperceiver.cli.runs import AsJson

_FAULTS = 1  # exit code of a check that found some

RecipeFile = Annotated[Path, arg(metavar="RECIPE.yaml")]
Overrides = Annotated[list[str], arg("a key of the recipe, e.g. data.max_broken=0", nargs="*", metavar="key=value")]
Workers = Annotated[int | None, arg("processes (default: as many as there are cores)", metavar="N")]


def data_check(
    recipe: RecipeFile, overrides: Overrides, *, workers: Workers = None, json: AsJson = False
) -> int | None:
    """Read every sample once: sizes, classes, lengths of texts, and what is broken (exit code 1)."""
    from dataclasses import asdict

    from uniperceiver.config import read_overrides, read_recipe
    from uniperceiver.data.prepare.check import as_text, check_data, workers_of

    report = check_data(read_recipe(recipe, read_overrides(overrides)), recipe.parent, workers_of(workers))
    if json:
        print_json(asdict(report))
    else:
        print("\n".join(as_text(report)))
    return None if report.clean else _FAULTS


def data_prepare(
    recipe: RecipeFile,
    overrides: Overrides,
    *,
    out: Annotated[Path, arg("folder of the shards and their recipe.yaml", metavar="DIR")],
    workers: Workers = None,
) -> int | None:
    """Write the data as shards of small pictures and clips, which are read fast; goes on where it was stopped."""
    from uniperceiver.data.prepare.check import workers_of
    from uniperceiver.data.prepare.prepare import as_text, prepare_data

    prepared = prepare_data(recipe, overrides, out, workers_of(workers))
    print("\n".join(as_text(prepared)))
    return None
