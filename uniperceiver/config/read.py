"""RECIPES: a YAML file becomes checked settings."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from uniperceiver import strict
from uniperceiver.config.recipe import Recipe
from uniperceiver.errors import UserError

_VARIABLE = re.compile(r"\$\{(\w+)\}")
# Keys whose texts are files or folders, of the recipe and of data formats: there, `${NAME}` may be a relative path.
PATHS = frozenset({"path", "images", "files", "classes", "only", "start", "vocabulary", "import"})


def read_overrides(words: Sequence[str]) -> dict[str, str]:
    """The `key.sub=value` words of a command line.

    Raises:
        UserError: a word without "=", or a key that is given twice.
    """
    overrides: dict[str, str] = {}
    for word in words:
        if "=" not in word:
            raise UserError(f"{word!r}: expected key=value, such as optimiser.lr=3e-4")
        key, value = word.split("=", 1)
        if key in overrides:
            raise UserError(f"{key} is given twice, as {overrides[key]!r} and {value!r}; give it once")
        overrides[key] = value
    return overrides


def read_recipe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe from YAML, with dotted `key=value` overrides whose values are YAML too, or plain values.

    Raises:
        UserError: the file or a key is wrong.

    Example:
        >>> from pathlib import Path
        >>> import uniperceiver
        >>> text = "tasks: {things: {kind: image_classification, train: {format: folder, path: pictures}}}"
        >>> _ = Path("recipe.yaml").write_text(text)
        >>> uniperceiver.read_recipe("recipe.yaml", {"optimiser.lr": "3e-4"}).optimiser.lr
        0.0003
    """
    return parse_recipe(strict.read_yaml(path), overrides or {}, str(path))


def parse_recipe(values: dict[str, Any], overrides: Mapping[str, Any], where: str) -> Recipe:
    """As `read_recipe`, for values that were read already; `where` is their file.

    Raises:
        UserError: a key is wrong.
    """
    for key, text in overrides.items():
        _set(values, key.split("."), _value(key, text), f"{key}={text}")
    _check_moe(values, where)
    return strict.parse(Recipe, _expanded(values, where), where)


def _check_moe(values: Mapping[str, Any], where: str) -> None:
    """A `moe` section must say its condition: without one there are no experts, whatever else it says.

    `condition: shared` is the way to say that the rest is not wanted now, as when a dense model is compared. Of a model
    that is tuned, the experts are its own.
    """
    section, tune = values.get("moe"), values.get("tune")
    tuned = isinstance(tune, Mapping) and tune.get("method")
    if isinstance(section, Mapping) and section and "condition" not in section and not tuned:
        raise UserError(
            f"{where}: moe.{next(iter(section))} has no effect without moe.condition; add one, such as "
            "moe.condition=token, or moe.condition=shared for a dense model"
        )


def _expanded(value: Any, where: str, key: str = "") -> Any:
    """The value with `${NAME}` in its strings replaced by that environment variable.

    In a key that holds a path, a relative one is made absolute: it starts where the command was given.
    """
    if isinstance(value, dict):
        return {name: _expanded(item, where, str(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [_expanded(item, where, key) for item in value]
    if not isinstance(value, str):
        return value
    for name in _VARIABLE.findall(value):
        text = os.environ.get(name)
        if not text:
            raise UserError(f"{where}: {key}: {value!r} needs the environment variable {name}; set it")
        is_path = key in PATHS and value.startswith(f"${{{name}}}")
        value = value.replace(f"${{{name}}}", str(Path(text).resolve()) if is_path else text)
    return value


def _value(key: str, text: Any) -> Any:
    if not isinstance(text, str):  # of a program, which has values
        return text
    quoted = f"'{key}={json.dumps(text, ensure_ascii=False)}'"
    try:
        value, comment = strict.load_yaml(text), strict.comment_of(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{key}={text}: not valid YAML ({reason}); if it is meant as a text, write {quoted}") from None
    if comment:
        raise UserError(f"{key}={text}: YAML takes {comment!r} for a comment; leave it out, or write {quoted}")
    return value


def _set(values: dict[str, Any], key: list[str], value: Any, what: str) -> None:
    for part in key[:-1]:
        section = values.get(part, {})
        if not isinstance(section, dict):
            raise UserError(f"{what}: {part!r} is not a section of the recipe")
        values[part] = dict(section)  # a copy: the aliases of a YAML anchor are one mapping
        values = values[part]
    values[key[-1]] = value
