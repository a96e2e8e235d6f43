"""What the formats share."""

import os
import pickle
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniperceiver.data.formats import notes_of, open_source
from uniperceiver.data.formats.class_list import read_classes
from uniperceiver.data.formats.files import (
    Strings,
    decode_text,
    expand_braces,
    label_of,
    list_files,
    read_bytes,
    short_names,
    sorted_names,
)
from uniperceiver.errors import BrokenSample, UserError


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_strings_come_back(texts: list[str]) -> None:
    packed = pickle.loads(pickle.dumps(Strings.of(texts)))
    assert list(packed) == texts
    assert [packed[index - len(texts)] for index in range(len(texts))] == texts
    with pytest.raises(IndexError):
        packed[len(texts)]


def test_strings_keep_file_names_that_are_not_utf8() -> None:
    assert list(Strings.of(["a\udcff.jpg", "b"])) == ["a\udcff.jpg", "b"]


@given(low=st.integers(0, 300), count=st.integers(1, 40), width=st.integers(1, 5))
def test_a_range_in_braces_counts_with_its_zeros(low: int, count: int, width: int) -> None:
    high = low + count - 1
    names = expand_braces(f"s-{{{low:0{width}d}..{high:0{width}d}}}.tar")
    assert len(names) == count
    assert [int(name[2:-4]) for name in names] == list(range(low, high + 1))
    assert names[0] == f"s-{low:0{width}d}.tar"
    padded = width > 1 and len(str(low)) < width
    assert not padded or len({len(name) for name in names}) == 1 or len(str(high)) > width


@given(st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"])))
def test_without_braces_a_path_is_itself(path: str) -> None:
    assert expand_braces(path) == [path]


def test_braces() -> None:
    assert expand_braces("{a,b}/{0..1}") == ["a/0", "a/1", "b/0", "b/1"]
    assert expand_braces("{2..0}") == ["2", "1", "0"]
    assert expand_braces("{08..10}") == ["08", "09", "10"]
    assert expand_braces("{one}{}") == ["{one}{}"]
    with pytest.raises(UserError, match="more than 1000000 files"):
        expand_braces("{0..9999999999999}")
    with pytest.raises(UserError, match="more than 1000000 files"):
        expand_braces("{0..1999}{0..1999}")


def test_list_files(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", ".hidden.txt", "c.md"):
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    assert [file.name for file in list_files(tmp_path, ".", ".txt", "w")] == ["a.txt", "b.txt"]
    assert [file.name for file in list_files(tmp_path, ["c.md", "{b,a}.txt"], ".txt", "w")] == [
        "c.md",
        "b.txt",
        "a.txt",
    ]
    assert [file.name for file in list_files(tmp_path, ["?.txt", "[c-d].m?"], ".txt", "w")] == [
        "a.txt",
        "b.txt",
        "c.md",
    ]
    with pytest.raises(UserError, match=r"w: .*/x\*\.txt: no file is named like this"):
        list_files(tmp_path, "x*.txt", ".txt", "w")
    for name in ("x*.txt", "xy.txt"):  # a file may have such a name
        (tmp_path / name).touch()
    assert [file.name for file in list_files(tmp_path, "x*.txt", ".txt", "w")] == ["x*.txt"]
    for twice in (["a.txt", "?.txt"], [".", "a.txt"], "{a,a}.txt"):
        with pytest.raises(UserError, match=r"w: key 'path' names .*/a\.txt twice"):
            list_files(tmp_path, twice, ".txt", "w")
    with pytest.raises(UserError, match=r"no \.txt file in this folder"):
        list_files(tmp_path, "empty", ".txt", "w")
    with pytest.raises(UserError, match="empty list"):
        list_files(tmp_path, [], ".txt", "w")


def test_short_names_are_unique() -> None:
    assert short_names([Path("/d/a/0.tar")]) == ("0.tar",)
    assert short_names([Path("/d/a/0.tar"), Path("/d/b/0.tar")]) == ("a/0.tar", "b/0.tar")


def test_read_bytes_tells_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    assert read_bytes(tmp_path / "x", "s", 3, 4) == b"3456"
    with pytest.raises(BrokenSample, match="ends too early"):
        read_bytes(tmp_path / "x", "s", 8, 4)
    with pytest.raises(BrokenSample, match=r"^s: .*No such file"):
        read_bytes(tmp_path / "y", "s")
    with pytest.raises(BrokenSample, match=r"^s: .*cannot be read .*null byte"):
        read_bytes(tmp_path / "y\0", "s")
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(BrokenSample, match=r"^s: .*not a plain file"):
            read_bytes(tmp_path / name, "s")


def test_names_are_sorted_as_numbers_if_all_are_numbers() -> None:
    assert sorted_names(["10", "9", "-1", "", "9"]) == ("-1", "9", "10")
    assert sorted_names(["10", "9", "x"]) == ("10", "9", "x")


def test_decode_text() -> None:
    assert decode_text("  é \n".encode(), "s") == "é"
    assert decode_text("\ufeffa\r\n".encode(), "s") == "a"
    with pytest.raises(BrokenSample, match=r"not valid UTF-8 \(byte 1\)"):
        decode_text(b"a\xff", "s")
    with pytest.raises(BrokenSample, match="empty text"):
        decode_text("\u3000 \n".encode(), "s")


def test_labels_are_names_first_and_indices_then() -> None:
    index_of = {"dog": 0, "cat": 1}
    assert [label_of(value, index_of) for value in ("dog", "1", "cat", "0", "2", "-1", "cow", "²")] == [
        0, 1, 1, 0, None, None, None, None,
    ]  # fmt: skip


def test_two_forms_of_a_name_are_one_class() -> None:
    apart, joined = "cafe\N{COMBINING ACUTE ACCENT}", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    assert sorted_names([joined, apart, "cat", joined]) == (apart, "cat")
    assert [label_of(name, {apart: 0, "cat": 1}) for name in (apart, joined, "cat")] == [0, 0, 1]


def test_numbers_are_names_where_a_class_is_called_by_one() -> None:
    index_of = {"1": 0, "0": 1, "cat": 2}
    assert [label_of(value, index_of) for value in ("0", "1", "cat", "2")] == [1, 0, 2, None]
    assert label_of("0", {str(number): number - 1 for number in range(1, 6)}) is None


def test_read_classes(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbfcat\r\n\r\nhot_dog\r\n")
    (tmp_path / "empty.txt").write_text("\n")
    assert read_classes(tmp_path, "classes.txt", "w").names == ("cat", "hot_dog")
    assert read_classes(tmp_path, ("b", "a"), "w").names == ("b", "a")
    with pytest.raises(UserError, match="names no class"):
        read_classes(tmp_path, "empty.txt", "w")
    with pytest.raises(UserError, match="names 'a' twice"):
        read_classes(tmp_path, ("a", "b", "a"), "w")


def test_of_a_series_all_files_are_there(tmp_path: Path) -> None:
    for number in (0, 2):
        (tmp_path / f"s-{number:03}.tar").write_bytes(b"x")
    with pytest.raises(UserError) as caught:
        list_files(tmp_path, "s-{000..002}.tar", ".tar", "here")
    told = "names 3 files, of which 1 are not there: s-001.tar; to read those that are, write path: 's-*.tar'"
    assert str(caught.value) == f"here: s-{{000..002}}.tar {told}"
    assert [file.name for file in list_files(tmp_path, "s-*.tar", ".tar", "here")] == ["s-000.tar", "s-002.tar"]


@pytest.mark.parametrize(("there", "asked"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_name_with_accents_is_one_name_however_it_is_spelt(tmp_path: Path, there: str, asked: str) -> None:
    name = "caf\N{LATIN SMALL LETTER E WITH ACUTE} 1.jpg"
    (tmp_path / unicodedata.normalize(there, name)).write_bytes(b"of this")
    assert read_bytes(tmp_path / unicodedata.normalize(asked, name), "x") == b"of this"
    (tmp_path / unicodedata.normalize(asked, name)).write_bytes(b"of that")
    assert read_bytes(tmp_path / unicodedata.normalize(asked, name), "x") == b"of that"


def test_files_of_other_types_in_a_folder_are_said_and_capitals_are_no_other_type(tmp_path: Path) -> None:
    for name in ("a.csv", "B.CSV", "notes.md", "x.xlsx", ".hidden"):
        (tmp_path / name).write_text("t\nx\n")
    source = open_source({"format": "csv", "path": ".", "text": "t"}, "w", tmp_path)
    assert len(source) == 2
    assert notes_of(source) == (f"{tmp_path}: 2 files are not taken: 1 .md, 1 .xlsx",)
    for name in ("a.txt", "B.TXT"):
        (tmp_path / name).write_text("x\n")
    source = open_source({"format": "text", "path": "."}, "w", tmp_path)
    assert (len(source), notes_of(source)) == (2, (f"{tmp_path}: 4 files are not taken: 2 .csv, 1 .md, 1 .xlsx",))
