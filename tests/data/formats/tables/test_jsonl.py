"""JSON Lines."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from uniperceiver.data.formats import Source, class_names, open_source
from uniperceiver.errors import BrokenSample, UserError


def lines(root: Path, *written: str | bytes, **keys: Any) -> Source:
    """A source of these lines, beside the file a.png."""
    (root / "a.png").write_text("A")
    data = b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in written)
    (root / "t.jsonl").write_bytes(data)
    return open_source({"format": "jsonl", "path": "t.jsonl", **keys}, "w", root)


def test_values_of_all_kinds(tmp_path: Path) -> None:
    source = lines(
        tmp_path,
        '{"t": " grün ", "k": 10, "more": {"x": [1]}}',
        "",
        '{"k": 2.0, "t": 7}',
        '{"t": true, "k": "2"}',
        text="t",
        label="k",
    )
    source = pickle.loads(pickle.dumps(source))
    assert class_names(source) == ("2", "10")
    samples = [source.read(index) for index in range(len(source))]
    assert [(sample.id, sample.text, sample.label) for sample in samples] == [
        ("t.jsonl:1", "grün", 1),
        ("t.jsonl:3", "7", 0),
        ("t.jsonl:4", "true", 0),
    ]


def test_captions_are_a_list_or_one(tmp_path: Path) -> None:
    source = lines(tmp_path, '{"i": "a.png", "c": ["x", "y"], "d": "z"}', image="i", captions=["c", "d"])
    assert source.read(0).captions == ("x", "y", "z")
    assert source.read(0).image == b"A"
    assert list(source.texts()) == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"i": "a.png", "c": "x"', "not valid JSON"),
        ('["a.png"]', "not a JSON object but a list"),
        (b'{"i": "a.png", "c": "\xff"}', r"not valid UTF-8 \(byte 21\)"),
        ('{"i": "a.png", "c": "\\ud800"}', r"column 'c' is not valid UTF-8 \(character 0\)"),
        ('{"i": "a.png", "c": NaN}', "column 'c' is NaN"),
        ('{"i": "a.png", "c": -Infinity}', "column 'c' is infinite"),
        ('{"i": "a.png", "c": ["", null]}', "empty text in column 'c'"),
        ('{"i": "a.png", "c": []}', "empty list in column 'c'"),
        ('{"i": "a.png", "c": {"raw": "x"}}', "column 'c' holds a mapping"),
        ('{"i": "a.png", "c": null}', "empty text in column 'c'"),
        ('{"i": "a.png", "c": "x", "i": "a.png"}', "not valid JSON .key 'i' stands there twice"),
        ('{"c": "x"}', "no file in column 'i'"),
        ('{"i": 7, "c": "x"}', "column 'i' holds a int"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_broken_lines(tmp_path: Path, line: str | bytes, reason: str) -> None:
    (tmp_path / "b.png").write_text("B")
    source = lines(tmp_path, line, '{"i": "b.png", "c": "good"}', image="i", captions="c")
    assert len(source) == 2
    with pytest.raises(BrokenSample, match=rf"^t\.jsonl:1: {reason}"):
        source.read(0)
    assert source.read(1).captions == ("good",)
    assert [text for text in source.texts() if text != "x"] == ["good"]


@pytest.mark.parametrize(("value", "reason"), [("null", "no label"), ("NaN", "is NaN"), ("[[1]]", "holds a list")])
def test_a_label_that_is_none(tmp_path: Path, value: str, reason: str) -> None:
    source = lines(tmp_path, f'{{"t": "x", "k": {value}}}', '{"t": "y", "k": 3}', text="t", label="k")
    with pytest.raises(BrokenSample, match=rf"^t\.jsonl:1: .*{reason}"):
        source.read(0)
    assert source.read(1).label == 0
    assert class_names(source) == ("3",)


def test_a_key_that_only_some_lines_have(tmp_path: Path) -> None:
    source = lines(tmp_path, '{"t": "x"}', '{"t": "y", "k": "b"}', text="t", label="k")
    assert source.read(1).label == 0


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ([""], r"t\.jsonl: no lines; is it complete"),
        (['[{"t": 1}]'], "no JSON Lines, which have an object"),
        (["{", ' "t": "x"', "}"], "which have an object .* this is one JSON document: use format: json"),
        (['{"t": "x"},', '{"t": "y"},'], "which have an object .* its lines end with ,: remove it"),
        (['{"txt": "x"}'], "no column 't'; did you mean 'txt'"),
    ],
)
def test_what_a_user_can_mend(tmp_path: Path, written: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"^w: .*{message}"):
        lines(tmp_path, *written, text="t")
