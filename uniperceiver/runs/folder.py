"""THE FOLDER OF A RUN: its recipe, and whether a run may go on there."""

import dataclasses
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from uniperceiver import strict
from uniperceiver.atomic import foreign_names, write_text
from uniperceiver.config import Recipe
from uniperceiver.errors import UserError
from uniperceiver.serving.saved import foreign_files
from uniperceiver.training.beginning import refuse_second

# What a resumed run's recipe may say anew; everything else decides what is computed.
_MAY_CHANGE = (
    "steps",
    "device",
    "threads",
    "data.",
    "evaluation.",
    "checkpoint.",
    "log.",
    "optimiser.recompute",
    "parallel.",
)

_MARK = "# relative paths start at"  # how recipe.yaml of a run begins, and no recipe that somebody writes

_BESIDE_RECIPE = ("tokenizer.json", "log.jsonl")  # what every run has from its first step on


def save_recipe(recipe: Recipe, base: Path, folder: Path) -> None:
    """The resolved recipe, with the folder that its relative paths start at.

    Raises:
        UserError: the disk does not take it.
    """
    values = dict(zip(strict.key_names(Recipe), dataclasses.asdict(recipe).values(), strict=True))
    text = f"{_MARK}: {base.resolve()}\n" + yaml.safe_dump(_plain(values), sort_keys=False)
    path = folder / "recipe.yaml"
    try:
        write_text(path, text)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); free or repair the disk, or use another --out"
        ) from error


def saved_recipe(folder: Path) -> tuple[Recipe, Path]:
    """The recipe of a run, and the folder that its relative paths start at.

    Raises:
        UserError: the folder holds no run.
    """
    path = folder / "recipe.yaml"
    if not path.is_file():
        raise UserError(
            f"{folder}: not a run (it has no recipe.yaml); give the folder that train wrote, or --data RECIPE.yaml"
        )
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    base = Path(first.partition(": ")[2]) if first.startswith(_MARK) else folder
    return strict.parse(Recipe, strict.read_yaml(path), str(path)), base


def write_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Write results.json of a run."""
    (folder / "results.json").write_text(strict.to_json(results, indent=1) + "\n", encoding="utf-8")


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds anything, unless it is the folder of a run: what lies there would be written over.

    Raises:
        UserError: it does, it is a file, or nothing can be written there.
    """
    refuse_unwritable(folder)
    others = foreign_names(folder)
    recipe = folder / "recipe.yaml"
    # A recipe that was copied from a run into another folder does not make that folder a run.
    beside = any((folder / name).is_file() for name in _BESIDE_RECIPE)
    if others and not (is_run_recipe(recipe) and (beside or others == [recipe.name])):
        raise UserError(
            f"{folder}: holds other files, such as {others[0]}, and is no run; use another --out, a folder that is "
            "new, empty or of a run"
        )


def refuse_unwritable(folder: Path) -> None:
    """Refuse a place where no folder can be made or filled, before there is anything to write.

    Raises:
        UserError: it is a file or lies below one, or may not be written.
    """
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if place.is_dir() and os.access(place, os.W_OK):
        return
    number = errno.EACCES if place.is_dir() else errno.EEXIST if place == folder else errno.ENOTDIR
    raise UserError(f"{folder}: cannot be written ({os.strerror(number)}); use another --out")


def is_run_recipe(path: Path) -> bool:
    """Whether a file is the recipe that a run has written into its folder."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.readline().startswith(_MARK.encode())


def check_same_run(recipe: Recipe, folder: Path) -> None:
    """A run is resumed with the recipe it was started with, except for what does not change what is computed.

    Raises:
        UserError: another process is training there, the folder is no run's, or the run there has another recipe.
    """
    refuse_second(folder)
    refuse_foreign(folder)
    beside = [name for name in foreign_files(folder / "model") if not name.startswith(".")]
    if beside:
        raise UserError(
            f"{folder / 'model' / beside[0]}: is none of the model's files, and would be lost when the run saves its "
            "model; move it elsewhere"
        )
    if not (folder / "recipe.yaml").is_file():
        return
    before, _ = saved_recipe(folder)
    old, new = strict.flat(dataclasses.asdict(before)), strict.flat(dataclasses.asdict(recipe))
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key) and not key.startswith(_MAY_CHANGE):
            raise UserError(
                f"{folder}: holds a run with {key}={old.get(key)!r}, the recipe says {new.get(key)!r}; "
                "use another --out, or the recipe of that run"
            )
    if list(before.tasks) != list(recipe.tasks):
        raise UserError(f"{folder}: holds a run with the tasks in the order {', '.join(before.tasks)}; keep that order")


def _plain(value: Any) -> Any:
    """Tuples as lists, which YAML can write without tags."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
