"""What the formats with columns share, on small CSV files: which rows are samples, their classes, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from uniperceiver.data.formats import Source, class_names, notes_of, open_source
from uniperceiver.errors import BrokenSample, UserError


def table(root: Path, *lines: str, **keys: Any) -> Source:
    """A source of a CSV file with these lines, beside the files a.png and b.png."""
    for name in ("a.png", "b.png"):
        (root / name).write_text(name)
    (root / "t.csv").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return open_source({"format": "csv", "path": "t.csv", **keys}, "w", root)


def all_of(source: Source, field: str) -> list[Any]:
    return [getattr(source.read(index), field) for index in range(len(source))]


def test_rows_with_one_file_are_one_sample_with_all_captions(tmp_path: Path) -> None:
    lines = ("f,c,d,k", "b.png,one,1,x", "a.png,two,2,y", "b.png,three,3,x", "c.png,four,4,x")
    source = table(tmp_path, *lines, image="f", captions=["c", "d"], label="k")
    assert [all_of_first(source, index) for index in range(2)] == [
        ("t.csv:2", b"b.png", ("one", "1", "three", "3"), 0),
        ("t.csv:3", b"a.png", ("two", "2"), 1),
    ]
    assert len(source) == 3
    with pytest.raises(BrokenSample, match=r"^t\.csv:5: .*c\.png: cannot be read"):
        source.read(2)
    assert list(source.texts()) == ["x", "y", "one", "1", "two", "2", "three", "3", "four", "4"]


def all_of_first(source: Source, index: int) -> tuple[Any, ...]:
    sample = source.read(index)
    return sample.id, sample.image, sample.captions, sample.label


def test_rows_without_a_file_are_broken_one_by_one(tmp_path: Path) -> None:
    lines = ("f,c", ",one", "a.png,two", ",three", "a.png,four")
    source = table(tmp_path, *lines, image="f", captions="c")
    assert len(source) == 3
    assert source.read(1).captions == ("two", "four")
    for index, line in ((0, 2), (2, 4)):
        with pytest.raises(BrokenSample, match=rf"^t\.csv:{line}: no file in column 'f'"):
            source.read(index)


def test_questions_about_one_file_are_samples_of_their_own(tmp_path: Path) -> None:
    lines = ("f,question,answer", "a.png,how many?,two", "a.png,what colour?,red", "b.png,how many?,one")
    source = table(tmp_path, *lines, image="f", text="question", label="answer", captions="answer")
    assert all_of(source, "text") == ["how many?", "what colour?", "how many?"]
    assert all_of(source, "label") == [2, 1, 0]
    assert all_of(source, "captions") == [("two",), ("red",), ("one",)]
    assert all_of(source, "image") == [b"a.png", b"a.png", b"b.png"]


def test_rows_are_chosen_by_value_and_classes_are_those_of_all_rows(tmp_path: Path) -> None:
    lines = ("t,k,split,n", "one,x,train,1", "two,y,val,1", "three,x,test,2", "four,z,train,3")
    keys = {"text": "t", "label": "k"}
    chosen = table(tmp_path, *lines, **keys, rows={"split": ["train", "val"], "n": 1})
    assert all_of(chosen, "text") == ["one", "two"]
    assert class_names(chosen) == ("x", "y", "z")
    assert list(chosen.texts()) == ["x", "y", "z", "one", "two"]
    with pytest.raises(UserError, match=r"^w: rows: no row has 'trian' in column 'split'; did you mean 'train'\?"):
        table(tmp_path, *lines, **keys, rows={"split": "trian"})
    with pytest.raises(UserError, match=r"^w: rows: no row has all of split, n as wanted"):
        table(tmp_path, *lines, **keys, rows={"split": "val", "n": 3})
    # A label outside `classes` matters only in the rows that are taken.
    assert all_of(table(tmp_path, *lines, **keys, rows={"split": "val"}, classes=["w", "y"]), "label") == [1]


def test_a_row_that_cannot_be_parsed_is_found_in_every_choice(tmp_path: Path) -> None:
    lines = ("t,split", "one,train", "two", "three,val")
    for split in ("train", "val"):
        source = table(tmp_path, *lines, text="t", rows={"split": split})
        assert len(source) == 2
        with pytest.raises(BrokenSample, match=r"^t\.csv:3: 1 columns instead of 2"):
            source.read(1 if split == "train" else 0)


def test_a_place_of_its_own_for_files(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/c.png").write_text("C")
    source = table(tmp_path, "f", "c.png", f"{tmp_path}/a.png", image="f", files="d")
    assert all_of(source, "image") == [b"C", b"a.png"]
    source = table(tmp_path, "f", "a.png", "d/c.png", clip="f")
    assert all_of(source, "clip") == [b"a.png", b"C"]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("", "no label in column 'k'"),
        ("NaN", "column 'k' is NaN"),
        ("\ufffe\udcff", "column 'k' is not valid UTF-8"),
    ],
)
def test_rows_without_a_label_are_broken(tmp_path: Path, cell: str, reason: str) -> None:
    (tmp_path / "t.csv").write_bytes(f"t,k\na,1\nb,{cell}\nc,0\n".encode("utf-8", "surrogateescape"))
    source = open_source({"format": "csv", "path": "t.csv", "text": "t", "label": "k"}, "w", tmp_path)
    assert class_names(source) == ("0", "1")
    assert (source.read(0).label, source.read(2).label) == (1, 0)
    with pytest.raises(BrokenSample, match=rf"^t\.csv:3: {reason}"):
        source.read(1)


def test_nan_can_be_the_name_of_a_class(tmp_path: Path) -> None:
    source = table(tmp_path, "t,k", "a,nan", "b,pita", text="t", label="k", classes=["pita", "nan"])
    assert all_of(source, "label") == [1, 0]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",x", "no file in column 'f'"),
        ("a.png,nan", "column 'c' is NaN"),
        ("a.png,", "empty text in column 'c'"),
        ("c.png,x", r".*c\.png: cannot be read \(No such file"),
        ("pipe,x", "not a plain file"),
        ("d,x", "not a plain file"),
        ("a\0.png,x", "cannot be read"),
        (f"{'n' * 300}.png,x", "cannot be read"),
    ],
)
def test_broken_rows(tmp_path: Path, row: str, reason: str) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "d").mkdir()
    source = table(tmp_path, "f,c", row, "b.png,y", image="f", captions="c")
    with pytest.raises(BrokenSample, match=rf"^t\.csv:2: .*{reason}"):
        source.read(0)
    assert source.read(1).captions == ("y",)
    assert list(source.texts())[-1] == "y"


@pytest.mark.parametrize(
    ("lines", "keys", "message"),
    [
        (["t", "x"], {}, "no column to learn from; set key text, image, clip or audio"),
        (["t", "x"], {"label": "t"}, "no column to learn from"),
        (["t", "x"], {"text": "t", "captions": "t"}, "key 'captions' needs key 'image', 'clip' or 'audio'"),
        (["t", "x"], {"image": "t", "text_pair": "t"}, "key 'text_pair' needs key 'text'"),
        (["t", "x"], {"text": "t", "classes": ["x"]}, "key 'classes' needs key 'label'"),
        (["t", "x"], {"text": "t", "rows": {"splt": "x"}}, r"t\.csv: no column 'splt'; choose one of t"),
        (["t,t", "x,y"], {"text": "t"}, r"t\.csv: two columns 't'; rename one"),
        (["f", "a.png", "b.png", "a.png"], {"image": "f"}, r"'f' names one file in t\.csv:2 and t\.csv:4; leave one"),
        (["f,k", "a.png,x", "a.png,y"], {"image": "f", "label": "k"}, r"names one file in t\.csv:2 and t\.csv:3"),
        (
            ["f,k,c", "b.png,x,1", "a.png,x,1", "b.png,x,3", "a.png,y,2"],
            {"image": "f", "label": "k", "captions": "c"},
            r"t\.csv:3 and t\.csv:5 name one file with two labels",
        ),
        (
            ["f", "x/a.png", "x/b.png"],
            {"image": "f"},
            r"none of the files is there, not even .*/x/a\.png; set key files",
        ),
        (["f", "d\\\\a.png"], {"image": "f"}, r"none of the files is there, .*; .* as on Windows: write / instead"),
        (["f", "https://h/a.png"], {"image": "f"}, "column 'f' holds addresses, not files; download them first"),
        (
            ["f,c", f"a.png,{'é' * 128}"],
            {"image": "c"},
            "column 'c' holds texts, not files: 'ééé.*'; name another column",
        ),
        (["f", "a.png"], {"image": "f", "files": "imgs"}, "files: .*imgs: no such file or folder"),
        (["t,k", "a,x", "b,z"], {"text": "t", "label": "k", "classes": ["x", "y"]}, r"t\.csv:3: label 'z' is not in"),
        (["t,k", "a,", "b, "], {"text": "t", "label": "k"}, "no row says its class: no label in column 'k'; name the"),
        (["t,k", "a,"], {"text": "t", "label": "k", "classes": ["x"]}, "no label in column 'k'; name the column with"),
        (["t,k", "a,nan"], {"text": "t", "label": "k"}, "no row says its class: column 'k' is NaN; name the column"),
        (["t,k", "a,"], {"text": "t", "label": "k", "separator": "|"}, "no row says its class: column 'k' is empty"),
        (
            ["t,k", "1,a,x", "2,b,y"],  # as R writes row names
            {"text": "t", "label": "k"},
            r"no row can be read; the first: t\.csv:2: 3 columns instead of 2",
        ),
    ],
)
def test_what_a_user_can_mend(tmp_path: Path, lines: list[str], keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^w: .*{message}") as caught:
        table(tmp_path, *lines, **keys)
    assert "\n" not in str(caught.value)


def test_rows_of_several_files_follow_each_other(tmp_path: Path) -> None:
    for name in ("x/1", "x/2", "y/1"):
        (tmp_path / name[0]).mkdir(exist_ok=True)
        (tmp_path / f"{name}.csv").write_text(f"t,k\n{name} a,{name}\n{name} b,x/1\n")
    keys = {"format": "csv", "text": "t", "label": "k"}
    source = open_source({**keys, "path": ["y/1.csv", "x"]}, "w", tmp_path)
    assert all_of(source, "text") == ["y/1 a", "y/1 b", "x/1 a", "x/1 b", "x/2 a", "x/2 b"]
    assert all_of(source, "id") == ["y/1.csv:2", "y/1.csv:3", "x/1.csv:2", "x/1.csv:3", "x/2.csv:2", "x/2.csv:3"]
    assert all_of(source, "label") == [2, 0, 0, 0, 1, 0]
    (tmp_path / "x/2.csv").write_text("text,k\n1,2\n")
    with pytest.raises(UserError, match=r"x/2\.csv: no column 't'; choose one of k, text"):
        open_source({**keys, "path": "{y,x}/*.csv"}, "w", tmp_path)


def test_the_index_of_many_rows_is_small(tmp_path: Path) -> None:
    """40 bytes a row, whatever the rows hold."""
    import pickle

    count = 2000
    (tmp_path / "t.jsonl").write_text(
        "".join(json.dumps({"t": f"{number} " * 50, "k": str(number % 5)}) + "\n" for number in range(count))
    )
    source = open_source({"format": "jsonl", "path": "t.jsonl", "text": "t", "label": "k"}, "w", tmp_path)
    assert len(pickle.dumps(source)) < 50 * count


def test_one_empty_caption_costs_itself_and_is_counted(tmp_path: Path) -> None:
    lines = ("f,c,d", "a.png,one,", "a.png,,nan", "b.png,three,four", "b.png,five,\udcff")
    (tmp_path / "t.csv").write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text(name)
    keys = {"format": "csv", "path": "t.csv", "image": "f", "captions": ["c", "d"]}
    source = open_source(keys, "w", tmp_path)
    assert all_of(source, "captions") == [("one",), ("three", "four", "five")]
    assert [note.removeprefix(f"{tmp_path}: ") for note in notes_of(source)[1:]] == [
        "4 captions are empty or damaged and left out",
        "4 rows are 2 samples: those with one file are one sample with all their captions",
    ]
    assert notes_of(source)[0].startswith(
        f"{tmp_path / 't.csv'}:5: not valid UTF-8; texts with such characters are broken"
    )
    assert list(source.texts()) == ["one", "three", "four", "five"]
    rows = [{"f": "a.png", "c": ["one", "", "two", None, 3.5]}, {"f": "b.png", "c": []}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = open_source({**keys, "format": "jsonl", "path": "t.jsonl", "captions": "c"}, "w", tmp_path)
    assert source.read(0).captions == ("one", "two", "3.5")
    with pytest.raises(BrokenSample, match=r"^t\.jsonl:2: empty list in column 'c'"):
        source.read(1)
    assert notes_of(source) == (f"{tmp_path}: 3 captions are empty or damaged and left out",)
