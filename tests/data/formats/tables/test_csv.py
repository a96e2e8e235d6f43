"""Tables with quotation marks."""

import csv
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniperceiver.data.formats import Source, notes_of, open_source
from uniperceiver.errors import BrokenSample, UserError


def table(root: Path, written: bytes, **options: Any) -> Source:
    """A source of that table."""
    (root / "t.csv").write_bytes(written)
    return open_source({"format": "csv", "path": "t.csv", "text": "a"} | options, "w", root)


def test_cells_may_hold_delimiters_quotation_marks_and_line_breaks(tmp_path: Path) -> None:
    written = b'\xef\xbb\xbfa,b\r\n"x, y",1\r\n\r\n"two\r\nlines, ""said"" he",2\r\n,,\r\n plain ,"3"\r\n'
    source = table(tmp_path, written, label="b")
    samples = [pickle.loads(pickle.dumps(source)).read(index) for index in range(len(source) - 1)]
    assert [sample.text for sample in samples] == ["x, y", 'two\r\nlines, "said" he']
    assert [sample.id for sample in samples] == ["t.csv:2", "t.csv:4"]
    assert source.read(2).text == "plain"
    assert source.read(2).id == "t.csv:7"
    assert [source.read(index).label for index in range(3)] == [0, 1, 2]


@given(
    st.lists(st.lists(st.text('ab" ,;\t\n\r', max_size=6), min_size=2, max_size=2), min_size=1, max_size=6),
    st.sampled_from(",;\t"),
)
def test_every_table_that_a_writer_makes_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], delimiter: str
) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerows([["a", "b"], *([f"{number}{one}", other] for number, (one, other) in enumerate(rows))])
    source = open_source({"format": "csv", "path": "t.csv", "text": "a", "delimiter": delimiter}, "w", path.parent)
    assert [source.read(index).text for index in range(len(source))] == [
        f"{number}{one}".strip() for number, (one, _) in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"x", "1 columns instead of 2"),
        (b"x,y,z", "3 columns instead of 2"),
        (b'"x"y,z', "not valid CSV"),
        (b"x\rx,y", "not valid CSV"),
        (b" ,y", "empty text in column 'a'"),
        (b"\xff\xfe,y", r"column 'a' is not valid UTF-8 \(character 0\)"),
        (b"x" * 140_000 + b",y", r"not valid CSV \(field larger"),
    ],
)
def test_broken_rows(tmp_path: Path, row: bytes, reason: str) -> None:
    source = table(tmp_path, b"a,b\ngood,1\n" + row + b"\nfine,2\n", label="b")
    assert len(source) == 3
    with pytest.raises(BrokenSample, match=rf"^t\.csv:3: {reason}"):
        source.read(1)
    assert (source.read(0).text, source.read(2).text, source.read(2).label) == ("good", "fine", 1)
    assert set(source.texts()) == {"1", "2", "good", "fine"} | (
        {"y"} if reason.startswith(("empty", "column")) else set()
    )


def test_bytes_that_are_no_utf8_matter_only_where_they_are_used(tmp_path: Path) -> None:
    assert table(tmp_path, b"a,b\nx,\xff\n").read(0).text == "x"


ROWS = [b"%d,x%d" % (number, number) for number in range(30)]


@pytest.mark.parametrize(
    ("stray", "place", "what"),
    [
        ({10: b'10,"x10'}, 12, "is never closed"),
        ({29: b'29,"x29'}, 31, "is never closed"),
        ({3: b'3,"x3', 20: b'20,"x20'}, 5, r"holds 18 lines \(',' expected after"),
        ({3: b'"3,x3', 20: b'20,x20"'}, 5, "holds 18 lines"),
        ({3: b'3,"x3', 4: b'x4"'}, None, ""),
        ({3: b'3,"x3', 20: b'20,x20"'}, 5, "holds 18 lines"),
        ({3: b'"3"x,x3'}, None, ""),
    ],
)
def test_a_quotation_mark_that_swallows_rows_is_refused_with_its_place(
    tmp_path: Path, stray: dict[int, bytes], place: int | None, what: str
) -> None:
    written = b"\n".join([b"a,b", *(stray.get(number, row) for number, row in enumerate(ROWS))]) + b"\n"
    if place is None:
        assert len(table(tmp_path, written)) in (29, 30)
        return
    with pytest.raises(UserError, match=rf"^w: .*t\.csv:{place}: a quotation mark in this row {what}") as caught:
        table(tmp_path, written)
    assert "remove it" in str(caught.value)
    assert len(table(tmp_path, written.replace(b'"', b""))) == 30
    assert "quotes: false" in str(caught.value)
    source = table(tmp_path, written, quotes=False)
    assert len(source) == 30
    assert [source.read(index).text for index in (0, 25)] == ["0", "25"]


@pytest.mark.parametrize(("columns", "swallowed"), [(2, 10), (3, 5), (4, 2), (7, 2)])
def test_rows_that_a_pair_of_quotation_marks_joins(tmp_path: Path, columns: int, swallowed: int) -> None:
    rows = [",".join(f"{name}{row}" for name in "abcdefg"[:columns]) for row in range(40)]
    last = columns - 1
    for lines in (swallowed, swallowed - 1):
        stray = [
            row.replace(f"{'abcdefg'[last]}5", f'"{"abcdefg"[last]}5') if number == 5 else row
            for number, row in enumerate(rows)
        ]
        stray[5 + lines] += '"'
        written = "\n".join(["a,b,c,d,e,f,g"[: 2 * columns - 1], *stray]).encode()
        if lines == swallowed:
            with pytest.raises(UserError, match=rf"t\.csv:7: a quotation mark in this row holds {lines + 1} lines, so"):
                table(tmp_path, written)
        else:
            (note,) = notes_of(table(tmp_path, written))
            assert note == f"{tmp_path / 't.csv'}: 1 rows have cells of several lines, up to {lines + 1} (line 7)"


def test_a_text_of_many_lines_is_no_stray_quotation_mark(tmp_path: Path) -> None:
    poem = "\n".join(f"line {number}, and more, of it" for number in range(40))
    assert table(tmp_path, f'a,b\n"{poem}",1\nz,2\n'.encode()).read(0).text == poem


def test_without_header(tmp_path: Path) -> None:
    source = table(tmp_path, b"1;x\n0;y\n", header=False, text=1, label="0", delimiter=";")
    assert [(source.read(index).text, source.read(index).label) for index in range(2)] == [("x", 1), ("y", 0)]


@pytest.mark.parametrize(
    ("written", "options", "message"),
    [
        (b"", {}, r"t\.csv: no rows below the header; is it complete"),
        (b"a,b\n", {}, "no rows below the header"),
        (b"a;b\nx;y\n", {}, "no column 'a'; if the columns are separated by semicolons, set delimiter: ';'"),
        (b"a\tb\nx\ty\n", {"delimiter": ";"}, r"separated by tabs, set delimiter: '\\t'"),
        (b"c\nx\n", {}, r"t\.csv: no column 'a'; choose one of c"),
        (b"A,b\nx,y\n", {"label": "B"}, "no column 'a'; "),
        (b"\xff\xfea\0", {}, "is UTF-16; set encoding: utf-16, or save it as UTF-8"),
        (b"a\xff,b\nx,y\n", {}, "the first row is not valid UTF-8; set its encoding, such as cp1252"),
        (b'"a"x,b\nx,y\n', {}, "the first row is not valid CSV"),
        (b"a\nx\n", {"delimiter": ",,"}, "key 'delimiter' has a wrong value ',,': string should have at most 1 char"),
        (b"a\nx\n", {"delimiter": '"'}, "delimiter cannot be a quotation mark or a line break"),
    ],
)
def test_what_a_user_can_mend(tmp_path: Path, written: bytes, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^w: .*{message}") as caught:
        table(tmp_path, written, **options)
    assert "\n" not in str(caught.value)
