"""Mappings become dataclasses, or one line says which key is wrong and what would be right."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from uniperceiver.errors import UserError
from uniperceiver.strict import flat, parse, read_yaml, record, to_json


@record
class Inner:
    width: int = 3
    names: tuple[str, ...] = ()


@record
class Outer:
    rate: float
    inner: Inner = Inner()
    maybe: Inner | None = None
    parts: dict[str, Inner] = Field(default_factory=dict)
    choice: int | str = 1
    pair: tuple[float, float] = (0, 0)
    flag: bool = True
    anything: Any = None

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError("rate must not be negative")


def test_nested_mappings_become_dataclasses() -> None:
    values = {"rate": "3e-4", "inner": {"width": 5, "names": ["a", 1]}, "parts": {"x": {"width": 7}}}
    assert parse(Outer, values, "r") == Outer(
        rate=3e-4, inner=Inner(width=5, names=("a", "1")), parts={"x": Inner(width=7)}
    )


def test_records_are_frozen_and_named() -> None:
    with pytest.raises(AttributeError):
        Outer(rate=1).rate = 2  # type: ignore[misc]
    with pytest.raises(ValueError, match="validation error"):
        Outer(1)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rat": 1}, "r: unknown key 'rat'; did you mean 'rate'?"),
        ({"rate": 1, "inner": {"wdith": 1}}, "r: unknown key 'inner.wdith'; did you mean 'width'?"),
        ({"rate": 1, "maybe": {"wdith": 1}}, "r: unknown key 'maybe.wdith'; did you mean 'width'?"),
        ({"rate": 1, "parts": {"x": {"nmes": 1}}}, "r: unknown key 'parts.x.nmes'; did you mean 'names'?"),
        ({"rate": 1, "zzz": 1}, "r: unknown key 'zzz'; choose one of anything, choice, flag, inner, maybe, pair, "),
        ({}, "r: key 'rate' is missing; add it"),
        (None, "r: key 'rate' is missing; add it"),
        ([], "r: the value must be a mapping of keys to values, found []"),
        ({"rate": -1}, "r: rate must not be negative"),
        ({"rate": 1, "inner": 4}, "r: inner must be a mapping of keys to values, found 4"),
        ({"rate": [1]}, "r: key 'rate' has a wrong value [1]: input should be a valid number"),
        (
            {"rate": 1, "inner": {"width": "x"}},
            "r: key 'inner.width' has a wrong value 'x': input should be a valid int",
        ),
        (
            {"rate": 1, "inner": {"names": "ab"}},
            "r: key 'inner.names' has a wrong value 'ab': input should be a valid tup",
        ),
        ({"rate": 1, "choice": [1]}, "r: key 'choice' has a wrong value [1]: input should be a valid integer"),
        (
            {"rate": 1, "inner": {"names": [True]}},
            "r: key 'inner.names.0' has a wrong value True: YAML reads yes, no, on",
        ),
        ({"rate": float("nan")}, "r: key 'rate' has a wrong value nan: input should be a finite number"),
    ],
)
def test_what_is_wrong_is_one_line(values: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(Outer, values, "r")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_yaml_holds_plain_values_only(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: [1, x]\n")
    assert read_yaml(path) == {"a": [1, "x"]}
    path.write_text("a: !!python/name:os.system\n")
    with pytest.raises(UserError, match=r"a\.yaml: not valid YAML"):
        read_yaml(path)
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(UserError, match=r"a\.yaml: not valid YAML"):
        read_yaml(path)
    with pytest.raises(UserError, match=r"absent\.yaml: no such file; give the path of a recipe"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match="is a folder; give a file: the paths in a recipe count from where it is"):
        read_yaml(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: is a pipe or a device; give a file"):
        read_yaml(tmp_path / "pipe")


def test_keys_are_names_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {yes: 1, no: on, 01: x, 1e3: 2.5, ~: 3}\nb: {<<: *a, 01: y}\n")
    first = {"yes": 1, "no": True, "01": "x", "1e3": 2.5, "~": 3}
    assert read_yaml(path) == {"a": first, "b": first | {"01": "y"}}
    path.write_text("a: {no: 1, no: 2}\n")
    with pytest.raises(UserError, match="key 'no' stands twice"):
        read_yaml(path)


def test_values_that_are_numbers_for_yaml_alone_are_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: [0100, 10:30, 1:30.5, -007, 2020-01-02, 1_000, 0, 0.5, 0x1f]\n")
    assert read_yaml(path)["a"] == ["0100", "10:30", "1:30.5", "-007", "2020-01-02", 1000, 0, 0.5, 31]
    path.write_text("{rate: 01.5, inner: {width: 0100, names: [010, 2020-01-02]}}\n")
    assert parse(Outer, read_yaml(path), "r") == Outer(rate=1.5, inner=Inner(width=100, names=("010", "2020-01-02")))
    with pytest.raises(UserError, match="wrong value '10:30': input should be a valid integer"):
        parse(Outer, {"rate": 1, "inner": {"width": "10:30"}}, "r")


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"rate": True}, "rate"),
        ({"rate": 1, "inner": {"width": False}}, "inner.width"),
        ({"rate": 1, "parts": {"x": {"width": 1}, "y": {"width": True}}}, "parts.y.width"),
        ({"rate": 1, "pair": [0.5, True]}, "pair.1"),
    ],
)
def test_true_and_false_are_no_numbers(values: Any, key: str) -> None:
    with pytest.raises(
        UserError, match=f"r: key '{key}' has a wrong value: input should be a number, and YAML reads yes"
    ):
        parse(Outer, values, "r")


def test_true_and_false_may_stand_where_anything_may() -> None:
    values = {"rate": 1, "flag": False, "anything": [True, {"x": False}]}
    assert parse(Outer, values, "r") == Outer(rate=1, flag=False, anything=[True, {"x": False}])


def test_json_is_what_every_reader_takes() -> None:
    text = to_json({"inf": float("inf"), "rows": [float("nan"), 1.5, (2, "x")]})
    assert json.loads(text) == {"inf": None, "rows": [None, 1.5, [2, "x"]]}


def test_nested_mappings_as_one() -> None:
    assert flat({"a": 1, "b": {"c": (2,), "d": {"e": None}}, "f": {}}) == {"a": 1, "b.c": (2,), "b.d.e": None}
