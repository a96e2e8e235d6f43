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
    label_of,
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


def test_a_whole_number_is_a_label_however_a_program_has_written_it() -> None:
    assert [label_of(value, {"dog": 0, "cat": 1}) for value in ("1.0", "0.00", "2.0", "0.5", "-1.0")] == [
        1, 0, None, None, None,
    ]  # fmt: skip
    assert [label_of(value, {"1": 0, "2": 1, "3.0": 2}) for value in ("1.0", "2.0", "3.0", "0.0")] == [0, 1, 2, None]


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
