"""Tables whose columns are separated by a character. Rows are read by their offset.

csv, as spreadsheets and pandas write it: "..." around a cell lets it hold delimiters, line breaks, and "" for a
quotation mark (RFC 4180). tsv, as GLUE has it: tabs; quotation marks are ordinary characters.

Shape suffixes: J rows.
"""

import csv
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from pydantic import Field

from uniperceiver.data.formats.files import others_beside
from uniperceiver.data.formats.line_index import index_lines
from uniperceiver.data.formats.patterns import list_files
from uniperceiver.data.formats.tables.columns import Columns, ColumnsData
from uniperceiver.data.formats.tables.rows import check_columns, open_all
from uniperceiver.data.formats.text_file import UTF8, TextFile, open_text
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.strict import record

# So many lines of a text may look like rows by chance, by the number of columns: many hold one comma, few hold three.
_ROWS_IN_PROSE = {2: 10, 3: 5}
_OPEN = "unexpected end of data"  # what csv says of a quotation mark that is never closed
_SEPARATOR = re.compile(rb'"?sep=([,;|\t])"?\r?\n')
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a table is written."""

    delimiter: str  # between columns
    quotes: bool  # whether "..." holds delimiters and line breaks; else quotation marks are ordinary characters
    header: bool  # whether the first row names the columns
    encoding: str = UTF8


@record
class CsvSource(Columns):
    """A sample per row. Without a header, columns are named by their number: "0", "1", ..."""

    path: str | tuple[str, ...]
    """A file, a folder of .csv files, a pattern such as part-{00..12}.csv or part-*.csv, or a list of these."""
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    """The character between columns."""
    header: bool = True
    """The first row names the columns."""
    quotes: bool = True
    """Whether "..." around a cell lets it hold delimiters and line breaks; false: quotation marks are ordinary
    characters, and a row is a line."""
    encoding: str = UTF8
    """Of the file, such as cp1252 or utf-16; another than UTF-8 is kept in memory as a whole."""

    def __post_init__(self) -> None:
        if self.delimiter in '"\r\n':
            raise ValueError("delimiter cannot be a quotation mark or a line break; use one of , ; | or a tab")

    def open(self, base: Path, where: str) -> ColumnsData:
        """Find the rows and read their labels."""
        dialect = Dialect(delimiter=self.delimiter, quotes=self.quotes, header=self.header, encoding=self.encoding)
        return _open(self, self.path, ".csv", dialect, base, where)


@record
class TsvSource(Columns):
    """A sample per line. Without a header, columns are named by their number: "0", "1", ..."""

    path: str | tuple[str, ...]
    """A file, a folder of .tsv files, a pattern such as part-{00..12}.tsv or part-*.tsv, or a list of these."""
    header: bool = True
    """The first row names the columns."""
    encoding: str = UTF8
    """Of the file, such as cp1252 or utf-16; another than UTF-8 is kept in memory as a whole."""

    def open(self, base: Path, where: str) -> ColumnsData:
        """Find the rows and read their labels."""
        dialect = Dialect(delimiter="\t", quotes=False, header=self.header, encoding=self.encoding)
        return _open(self, self.path, ".tsv", dialect, base, where)


def _open(
    keys: Columns, path: str | tuple[str, ...], suffix: str, dialect: Dialect, base: Path, where: str
) -> ColumnsData:
    columns, files = keys.named_columns(where), list_files(base, path, suffix, where)
    rows = open_all(files, lambda file, name: open_delimited(file, name, dialect, columns, where))
    return keys.samples(rows, files[0].parent, base, where, others_beside(base, path, suffix))


@dataclass(frozen=True, kw_only=True)
class DelimitedRows:
    """The opened table."""

    text: TextFile
    short: str  # its name in messages
    dialect: Dialect
    columns: tuple[str, ...]
    row_J2: np.ndarray  # (J, 2) int64, first byte and byte after the last
    number_J: np.ndarray  # int64, line in the file, from 1
    lines_J: np.ndarray  # int64, how many of them

    def __len__(self) -> int:
        return len(self.number_J)

    def name(self, index: int) -> str:
        """File and line."""
        return f"{self.short}:{self.number_J[index]}"

    def read(self, index: int) -> Mapping[str, Any]:
        """The cells by column."""
        start, stop = self.row_J2[index].tolist()
        name = self.name(index)
        cells = _cells(self.text.read(name, start, stop - start), self.dialect, name)
        if len(cells) != len(self.columns):
            raise BrokenSample(name, f"{len(cells)} columns instead of {len(self.columns)}")
        return dict(zip(self.columns, cells, strict=True))

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[Any, ...] | None]:
        """The cells of some columns."""
        positions = [self.columns.index(name) for name in columns]
        with self.text.open() as file:
            for start, stop in self.row_J2.tolist():
                file.seek(start)
                try:
                    cells = _cells(file.read(stop - start), self.dialect, self.short)
                except BrokenSample:
                    cells = []
                yield tuple(cells[position] for position in positions) if len(cells) == len(self.columns) else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of the file."""
        if not (self.lines_J > 1).any():
            return self.text.notes
        longest = int(self.lines_J.argmax())
        count, most = int((self.lines_J > 1).sum()), int(self.lines_J[longest])
        where = f"line {self.number_J[longest]}"
        line = f"{self.text.path}: {count:,} rows have cells of several lines, up to {most:,} ({where})"
        return (*self.text.notes, line)

    def holds_paths(self, column: str) -> bool:
        """Always: there is no place for bytes."""
        return True

    def class_names(self, column: str) -> None:
        """None: such a file lists no classes."""


def open_delimited(path: Path, short: str, dialect: Dialect, named: Sequence[str], where: str) -> DelimitedRows:
    """Find the rows of a table.

    Raises:
        UserError: it cannot be read, has no rows, or lacks a named column.
    """
    opened = open_text(path, dialect.encoding, where)
    row_J2, number_J, lines_J = _index(opened, dialect, where)
    if len(row_J2) <= dialect.header:
        raise UserError(f"{where}: {path}: no rows{' below the header' if dialect.header else ''}; is it complete?")
    start, stop = row_J2[0].tolist()
    columns = _columns(opened.read(path.name, start, stop - start), dialect, path, where)
    check_columns(named, columns, path, where, _hint(columns, dialect))
    return DelimitedRows(
        text=opened,
        short=short,
        dialect=dialect,
        columns=tuple(columns),
        row_J2=row_J2[int(dialect.header) :],
        number_J=number_J[int(dialect.header) :],
        lines_J=lines_J[int(dialect.header) :],
    )


def _cells(row: bytes, dialect: Dialect, name: str) -> list[str]:
    """The cells of a row; bytes that are not UTF-8 are kept, and matter only in a cell that is used."""
    text = row.decode("utf-8", "surrogateescape")
    if not dialect.quotes:
        return text.split(dialect.delimiter)
    try:
        return next(csv.reader([text], delimiter=dialect.delimiter, strict=True), [])
    except csv.Error as error:
        raise BrokenSample(name, f"not valid CSV ({error})") from None


def _columns(first: bytes, dialect: Dialect, path: Path, where: str) -> list[str]:
    try:
        if dialect.header:
            first.decode("utf-8")
        cells = _cells(first, dialect, path.name)
    except UnicodeDecodeError:
        raise UserError(
            f"{where}: {path}: the first row is not valid UTF-8; set its encoding, such as cp1252"
        ) from None
    except BrokenSample as error:
        raise UserError(f"{where}: {path}: the first row is {error.reason}; mend it") from None
    return [cell.strip() for cell in cells] if dialect.header else [str(number) for number in range(len(cells))]


def _hint(columns: Sequence[str], dialect: Dialect) -> str:
    """What is probably wrong with a table of one column."""
    if len(columns) > 1:
        return ""
    other = next((delimiter for delimiter in _DELIMITERS if delimiter in columns[0]), None)
    if other is None:
        return ""
    if not dialect.quotes and dialect.delimiter == "\t":
        return "the columns must be separated by tabs; "
    return f"if the columns are separated by {_DELIMITERS[other]}, set delimiter: {other!r}; "


def _index(text: TextFile, dialect: Dialect, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the rows lie, (J, 2) int64, their first lines, and how many these are, (J,) int64; rows without a word are
    left out.

    Raises:
        UserError: a quotation mark has swallowed lines, nobody can say how many.
    """
    if not dialect.quotes:
        lines = index_lines(text, where)
        return np.stack([lines.start_L, lines.stop_L], axis=1), lines.number_L, np.ones_like(lines.number_L)
    offsets, numbers, counts = array("q"), array("q"), array("q")
    columns: int | None = None
    try:
        with text.open() as file:
            counted = _CountedLines(file, text.start)
            _skip_separator(counted, dialect, text.path, where)
            reader = csv.reader(counted, delimiter=dialect.delimiter, strict=True)
            while True:
                start, number = counted.offset, counted.number + 1
                counted.lines.clear()
                reason = None
                try:
                    cells = next(reader)
                except StopIteration:
                    break
                except csv.Error as error:
                    cells, reason = ["?"], str(error)  # a row that is broken where it is read
                if len(counted.lines) > 1 or reason == _OPEN:
                    _refuse_swallowed(counted.lines, cells, reason, columns, dialect, f"{text.path}:{number}", where)
                columns = len(cells) if columns is None else columns
                if any(map(str.strip, cells)):
                    offsets.extend((start, counted.offset))
                    numbers.append(number)
                    counts.append(len(counted.lines))
    except OSError as error:
        raise UserError(f"{where}: {text.path}: cannot be read ({error.strerror})") from None
    row_J2 = np.array(offsets, dtype=np.int64).reshape(-1, 2)
    return row_J2, np.array(numbers, dtype=np.int64), np.array(counts, dtype=np.int64)


def _skip_separator(counted: "_CountedLines", dialect: Dialect, path: Path, where: str) -> None:
    """Pass over a first line such as sep=;, by which spreadsheets tell each other the delimiter."""
    line = counted.file.readline(32)
    if match := _SEPARATOR.fullmatch(line):
        if (says := match[1].decode()) != dialect.delimiter:
            raise UserError(f"{where}: {path}: its first line says sep={says}; set delimiter: {says!r}")
        counted.offset += len(line)
        counted.number += 1
    counted.file.seek(counted.offset)


def _refuse_swallowed(
    lines: Sequence[str], cells: Sequence[str], reason: str | None, columns: int | None, dialect: Dialect, place: str,
    where: str,
) -> None:  # fmt: skip
    """Refuse a row of several lines whose quotation marks do not say where it ends.

    That is so where they are never closed, or followed by something else than the end of the cell; where the number
    of columns is wrong and some line behind the first would be a row by itself; and where all lines would be.
    """
    if columns is None:
        columns = lines[0].count(dialect.delimiter) + 1
    behind = [line.count(dialect.delimiter) + 1 == columns > 1 for line in lines[1:]]
    first = lines[0].count(dialect.delimiter) + 1 == columns
    swallows = (
        any(behind)
        if len(cells) != columns
        else first and all(behind) and len(behind) >= _ROWS_IN_PROSE.get(columns, 2)
    )
    if reason is None and not swallows:
        return
    what = "is never closed" if reason == _OPEN else f"holds {len(lines):,} lines"
    why = f" ({reason})" if reason not in (None, _OPEN) else ""
    mend = "write texts as long as this as JSON Lines" if "larger" in why else 'write "" for it inside "..."'
    raise UserError(
        f"{where}: {place}: a quotation mark in this row {what}{why}, so it is unknown which rows it swallows; remove "
        f"it, or {mend}; where quotation marks mean nothing, set quotes: false"
    )


class _CountedLines:
    """The lines of a file, which a reader of rows takes as it needs them, and how far it has come."""

    def __init__(self, file: IO[bytes], start: int) -> None:
        self.file = file
        self.offset = start
        self.number = 0
        self.lines: list[str] = []  # of the row that is being read

    def __iter__(self) -> "_CountedLines":
        return self

    def __next__(self) -> str:
        line = self.file.readline()
        if not line:
            raise StopIteration
        self.offset += len(line)
        self.number += 1
        self.lines.append(line.decode("utf-8", "surrogateescape"))
        return self.lines[-1]
