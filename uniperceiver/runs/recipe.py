"""RECIPES: a YAML file becomes checked settings, which are saved with the run that they describe."""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from uniperceiver import strict
from uniperceiver.config import Recipe
from uniperceiver.errors import UserError
from uniperceiver.runs.checks import check_section
from uniperceiver.training.loop import refuse_second

_VARIABLE = re.compile(r"\$\{(\w+)\}")
# What a resumed run's recipe may say anew; everything else decides what is computed.
_MAY_CHANGE = ("steps", "device", "threads", "data.", "evaluation.", "checkpoint.", "log.", "optimiser.recompute")


def read_overrides(words: Sequence[str]) -> dict[str, str]:
    """The `key.sub=value` words of a command line.

    Raises:
        UserError: a word without "=".
    """
    for word in words:
        if "=" not in word:
            raise UserError(f"{word!r}: expected key=value, such as optimiser.lr=3e-4")
    return dict(word.split("=", 1) for word in words)


def read_recipe(path: str | Path, overrides: Mapping[str, str] | None = None) -> Recipe:
    """A recipe from YAML, with dotted `key=value` overrides whose values are YAML too.

    Raises:
        UserError: the file or a key is wrong.
    """
    return parse_recipe(strict.read_yaml(path), overrides or {}, str(path))


def parse_recipe(values: dict[str, Any], overrides: Mapping[str, str], where: str) -> Recipe:
    """As `read_recipe`, for values that were read already; `where` is their file.

    Raises:
        UserError: a key is wrong.
    """
    for key, text in overrides.items():
        _set(values, key.split("."), _value(text, f"{key}={text}"), f"{key}={text}")
    check_section(values, where)
    return strict.parse(Recipe, _expanded(values, where), where)


def _expanded(value: Any, where: str) -> Any:
    """The value with `${NAME}` in its strings replaced by that environment variable, relative paths made absolute."""
    if isinstance(value, dict):
        return {key: _expanded(each, where) for key, each in value.items()}
    if isinstance(value, list):
        return [_expanded(each, where) for each in value]
    if not isinstance(value, str):
        return value
    for name in _VARIABLE.findall(value):
        if not os.environ.get(name):
            raise UserError(f"{where}: {value!r} needs the environment variable {name}; set it to a folder")
        value = value.replace(f"${{{name}}}", str(Path(os.environ[name]).resolve()))
    return value


def _value(text: str, what: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{what}: not valid YAML ({' '.join(str(error).split())})") from None


def _set(values: dict[str, Any], key: list[str], value: Any, what: str) -> None:
    for part in key[:-1]:
        section = values.get(part, {})
        if not isinstance(section, dict):
            raise UserError(f"{what}: {part!r} is not a section of the recipe")
        values[part] = dict(section)  # a copy: the aliases of a YAML anchor are one mapping
        values = values[part]
    values[key[-1]] = value


def save_recipe(recipe: Recipe, base: Path, folder: Path) -> None:
    """The resolved recipe, with the folder that its relative paths start at.

    Raises:
        UserError: the disk does not take it.
    """
    values = dataclasses.asdict(recipe)
    text = f"# relative paths start at: {base.resolve()}\n" + yaml.safe_dump(_plain(values), sort_keys=False)
    temporary = folder / "recipe.yaml.tmp"
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(folder / "recipe.yaml")
    except OSError as error:
        raise UserError(
            f"{temporary}: cannot be written ({error.strerror}); free or repair the disk, or use another --out"
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
    base = Path(first.partition(": ")[2]) if first.startswith("# relative paths") else folder
    return strict.parse(Recipe, strict.read_yaml(path), str(path)), base


def check_same_run(recipe: Recipe, folder: Path) -> None:
    """A run is resumed with the recipe it was started with, except for what does not change what is computed.

    Raises:
        UserError: another process is training there, or the run there has another recipe.
    """
    refuse_second(folder)
    if not (folder / "recipe.yaml").is_file():
        return
    before, _ = saved_recipe(folder)
    old, new = _flat(dataclasses.asdict(before)), _flat(dataclasses.asdict(recipe))
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key) and not key.startswith(_MAY_CHANGE):
            raise UserError(
                f"{folder}: holds a run with {key}={old.get(key)!r}, the recipe says {new.get(key)!r}; "
                "use another --out, or the recipe of that run"
            )
    if list(before.tasks) != list(recipe.tasks):
        raise UserError(f"{folder}: holds a run with the tasks in the order {', '.join(before.tasks)}; keep that order")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _plain(value: Any) -> Any:
    """Tuples as lists, which YAML can write without tags."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
