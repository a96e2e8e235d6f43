"""Mappings from files become dataclasses; an unknown key, a wrong type or a missing value is one clear line."""

import dataclasses
import difflib
import json
import math
import re
import typing
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as _dataclass

from uniperceiver.errors import UserError, kind_of_path, nearest

T = TypeVar("T")
_ALIKE = 0.75  # from which on two names are the same with a slip; below, the name may be that of another section
# Numbers that are none as people write them: 0100 is octal for YAML, and 10:30 is 630.
_ODD_NUMBER = re.compile(r"[-+]?0[0-9_]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_TEXT, _TIME = "tag:yaml.org,2002:str", "tag:yaml.org,2002:timestamp"
_AS_BOOL = "YAML reads yes, no, on and off as true and false"
_UNKNOWN_KEY = frozenset({"unexpected_keyword_argument", "extra_forbidden"})


@typing.dataclass_transform(kw_only_default=True, frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """A frozen, keyword-only dataclass that refuses unknown fields and wrong types."""
    return typing.cast(
        type[T],
        _dataclass(
            frozen=True,
            kw_only=True,
            config=ConfigDict(extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False, populate_by_name=True),
        )(cls),
    )


def parse(cls: type[T], values: Any, where: str) -> T:
    """`values` (as YAML or JSON give them) as a `cls`.

    Raises:
        UserError: unknown key (the nearest one is offered), wrong type, missing key; `where` says whose.
    """
    try:
        parsed = TypeAdapter(cls).validate_python({} if values is None else values)
    except ValidationError as error:
        # An unknown key explains a missing one: say it first.
        first = min(error.errors(), key=lambda problem: problem["type"] not in _UNKNOWN_KEY)
        raise UserError(_one_line(cls, first, where)) from None
    if (odd := _true_as_number(values, parsed)) is not None:
        raise UserError(f"{where}: key {odd!r} has a wrong value: input should be a number, and {_AS_BOOL}")
    return parsed


def _true_as_number(value: Any, read: Any) -> str | None:
    """The key of the first true or false that became 1 or 0."""
    pairs: Iterable[tuple[Any, Any, Any]] = ()
    if isinstance(value, bool):
        return "" if isinstance(read, int | float) and not isinstance(read, bool) else None
    if isinstance(value, Mapping):
        of = read.get if isinstance(read, Mapping) else partial(getattr, read)
        pairs = ((key, item, of(str(key), None)) for key, item in value.items())
    elif isinstance(value, list) and isinstance(read, list | tuple):
        pairs = zip(range(len(value)), value, read, strict=False)
    keys = ((key, _true_as_number(item, part)) for key, item, part in pairs)
    return next((f"{key}.{inner}".removesuffix(".") for key, inner in keys if inner is not None), None)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file; plain values only, no tags that execute anything."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file; give the path of a recipe (YAML)")
    if not path.is_file():
        raise UserError(f"{path}: is {kind_of_path(path)}; give a file: the paths in a recipe count from where it is")
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); mend its permissions") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping of keys to values, found {type(values).__name__}")
    return values


def load_yaml(text: str) -> Any:
    """The plain values of a YAML text.

    Raises:
        yaml.YAMLError: it is none, or one key stands twice in a mapping: one of the two values would be lost.
    """
    return yaml.load(text, _UniqueKeys)


def comment_of(text: str) -> str:
    """What YAML leaves out at the end of a text, as a comment.

    Raises:
        yaml.YAMLError: the text is no YAML.
    """
    node = yaml.compose(text, _UniqueKeys)
    return text[0 if node is None else node.end_mark.index :].strip()


class _UniqueKeys(yaml.SafeLoader):
    """Keys are names, as they are written: no, 01 and 1e3 too, which YAML takes for false, 1 and 1000.

    So are values that nobody means as the number that YAML makes of them, 0100 and 10:30, and dates.
    """

    def compose_scalar_node(self, anchor: Any) -> Any:
        node = super().compose_scalar_node(anchor)
        if node.style is None and (node.tag == _TIME or _ODD_NUMBER.fullmatch(node.value)):
            node.tag = _TEXT
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        keys = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                key.tag = _TEXT
                if key.value in keys:
                    problem = f"key {key.value!r} stands twice; rename or remove one"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                keys.add(key.value)
        return node


def key_names(cls: Any) -> list[str]:
    """What the fields of a record are called in a file; Python keeps some words for itself."""
    aliases = getattr(cls, "__pydantic_fields__", {})
    return [getattr(aliases.get(field.name), "alias", None) or field.name for field in dataclasses.fields(cls)]


def to_json(values: Any, indent: int | None = None) -> str:
    """The values as JSON that every reader takes: what is not finite becomes null."""
    return json.dumps(_finite(values), indent=indent, allow_nan=False)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with keys such as "model.size"."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _one_line(cls: type, error: Mapping[str, Any], where: str) -> str:
    *parents, last = [str(part) for part in error["loc"] if not _is_union_tag(part)] or [""]
    key = ".".join([*parents, last])
    if error["type"] in _UNKNOWN_KEY:
        return f"{where}: unknown key {key!r}; {_meant(cls, parents, last)}"
    match error["type"]:
        case "missing" | "missing_argument" | "missing_keyword_only_argument":
            return f"{where}: key {key!r} is missing; add it"
        case "dataclass_type":
            return f"{where}: {key or 'the value'} must be a mapping of keys to values, found {error['input']!r}"
        case "value_error":
            reason = str(error["ctx"]["error"])
            return f"{where}: {key + ': ' if key else ''}{reason}"
    message = error["msg"][0].lower() + error["msg"][1:]
    if error["type"] == "string_type" and isinstance(error["input"], bool):
        message = f"{_AS_BOOL}; put the text into quotation marks"
    return f"{where}: key {key!r} has a wrong value {error['input']!r}: {message}"


def _meant(cls: type, parents: list[str], name: str) -> str:
    """The end of a message about an unknown key: the key that is meant, here or in another section."""
    names = _field_names(cls, parents)
    own = nearest(name, names)
    elsewhere: Mapping[str, str] = getattr(cls, "other_names", {})
    if difflib.SequenceMatcher(None, name, own.partition("'")[2].partition("'")[0]).ratio() >= _ALIKE:
        return own
    path = elsewhere.get(name.lower())
    if path is None and not parents:
        path = next((f"{section}.{name}" for section in names if name in _field_names(cls, [section])), None)
    return own if path is None else f"did you mean {path!r}?"


def _is_union_tag(part: str | int) -> bool:
    """pydantic names the tried member of a union inside the location; a reader does not want it."""
    return isinstance(part, str) and (part in {"int", "float", "str", "bool", "none", "constrained-int"} or "[" in part)


def _field_names(cls: Any, path: list[str]) -> list[str]:
    for part in path:
        if dataclasses.is_dataclass(cls):
            hints = typing.get_type_hints(cls)
            cls = hints.get(part)
        elif typing.get_origin(cls) is dict:
            cls = typing.get_args(cls)[1]
        elif typing.get_origin(cls) in (list, tuple) and part.isdigit():
            cls = typing.get_args(cls)[0]
        members = [member for member in typing.get_args(cls) if dataclasses.is_dataclass(member)]
        if members and typing.get_origin(cls) is not dict:
            cls = members[0]  # Optional[SomeDataclass]
    return key_names(cls) if dataclasses.is_dataclass(cls) else []
