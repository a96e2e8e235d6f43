"""Several classes of a row: in a cell, in a list, in columns of 0 and 1."""

import json
from pathlib import Path
from typing import Any

import pytest

from uniperceiver.data.formats import Source, class_names, labels_there, notes_of, open_source
from uniperceiver.errors import BrokenSample, UserError


def opened(root: Path, table: str, **keys: Any) -> Source:
    (root / "t.csv").write_text(table)
    return open_source({"format": "csv", "path": "t.csv", "text": "t", **keys}, "w", root)


def right(source: Source) -> list[tuple[int | None, tuple[int, ...]]]:
    return [(sample.label, sample.labels) for sample in map(source.read, range(len(source)))]


def test_several_in_a_cell(tmp_path: Path) -> None:
    table = "t,k\na,dog|cat\nb,cat\nc,\nd, owl | dog |owl\n"
    source = opened(tmp_path, table, label="k", separator="|")
    assert class_names(source) == ("cat", "dog", "owl")
    assert right(source) == [(None, (1, 0)), (0, ()), (None, ()), (None, (2, 1))]
    for rows, there in ((["a"], {0, 1}), (["b", "c"], {0}), (["c", "d"], {1, 2})):
        assert (
            labels_there(
                opened(tmp_path, table, label="k", separator="|", classes=["cat", "dog", "owl"], rows={"t": rows})
            )
            == there
        )
    assert right(opened(tmp_path, table, label="k", separator="|", classes=["owl", "dog", "cat"]))[0] == (None, (1, 2))
    with pytest.raises(UserError, match=r"^w: t\.csv:5: label 'owl' is not in `classes`; "):
        opened(tmp_path, table, label="k", separator="|", classes=["dog", "cat"])
    assert len(opened(tmp_path, table, label="k", separator="|", classes=["dog", "cat"], rows={"t": ["a", "b"]})) == 2


def test_several_in_a_list(tmp_path: Path) -> None:
    rows = [{"t": "a", "k": ["x", "y"]}, {"t": "b", "k": ["y"]}, {"t": "c", "k": "x"}, {"t": "d", "k": []}, {"t": "e"}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = open_source({"format": "jsonl", "path": "t.jsonl", "text": "t", "label": "k"}, "w", tmp_path)
    assert [(source.read(i).label, source.read(i).labels) for i in range(4)] == [
        (None, (0, 1)), (1, ()), (0, ()), (None, ())
    ]  # fmt: skip
    with pytest.raises(BrokenSample, match=r"^t\.jsonl:5: no label in column 'k'"):
        source.read(4)


def test_a_column_for_each_class(tmp_path: Path) -> None:
    source = opened(tmp_path, "t,cat,dog\na,1,1\nb,0,1.0\nc,false,\nd,2,0\n", label=["cat", "dog"])
    assert class_names(source) == ("cat", "dog")
    assert [(source.read(i).label, source.read(i).labels) for i in range(3)] == [(None, (0, 1)), (1, ()), (None, ())]
    with pytest.raises(BrokenSample, match=r"^t\.csv:5: column 'cat' holds '2', neither 0 nor 1"):
        source.read(3)
    with pytest.raises(UserError, match="no column 'owl'"):
        opened(tmp_path, "t,cat\na,1\n", label=["cat", "owl"])
    with pytest.raises(UserError, match="key 'separator' needs key 'label': the one column"):
        opened(tmp_path, "t,cat\na,1\n", label=["cat"], separator="|")


def test_rows_of_one_file_have_one_set_of_classes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("A")
    keys = {"text": None, "image": "t", "captions": "c", "label": "k", "separator": " "}
    source = opened(tmp_path, "t,c,k\na.png,one,x y\na.png,two,y x\n", **keys)
    assert (source.read(0).captions, source.read(0).labels) == (("one", "two"), (0, 1))
    with pytest.raises(UserError, match="name one file with two labels"):
        opened(tmp_path, "t,c,k\na.png,one,x y\na.png,two,x z\n", **keys)


def test_classes_are_those_of_their_own_row_wherever_the_sample_stands(tmp_path: Path) -> None:
    table = "t,k,s\na,x y,test\nb,x,train\nc,y z,train\nd,z x,test\ne,z y x,train\n"
    source = opened(tmp_path, table, label="k", separator=" ", rows={"s": "train"})
    assert right(source) == [(0, ()), (None, (1, 2)), (None, (2, 1, 0))]
    for name in "ab":
        (tmp_path / f"{name}.png").write_text(name)
    table = "t,c,k\na.png,one,x y\na.png,two,x y\nb.png,three,y z\n"
    source = opened(tmp_path, table, text=None, image="t", captions="c", label="k", separator=" ")
    assert right(source) == [(None, (0, 1)), (None, (1, 2))]


def test_labels_that_join_others_are_said(tmp_path: Path) -> None:
    table = "t,k\na,dog|cat\nb,cat\nc,dog\nd,x|y\n"
    (note,) = notes_of(opened(tmp_path, table, label="k"))
    assert note == (
        f"{tmp_path}: column 'k': 1 labels join others and are classes of their own, such as 'dog|cat'; for several "
        "right classes set separator: '|' and a kind that takes them (image_tagging, text_tagging)"
    )
    assert notes_of(opened(tmp_path, table, label="k", separator="|")) == ()
    assert notes_of(opened(tmp_path, table, label="k", classes=["cat", "dog", "dog|cat", "x|y"])) == ()


def test_labels_that_look_like_lists_are_said(tmp_path: Path) -> None:
    (note,) = notes_of(opened(tmp_path, "t,k\na,\"['x', 'y']\"\nb,x\n", label="k"))
    assert "1 labels look like lists, such as " in note
