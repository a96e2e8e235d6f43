"""A table whose columns are separated by tabs, as GLUE has them: quotation marks are ordinary characters."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uniperceiver.data.sources.files import (
    class_texts,
    decode_text,
    existing_file,
    label_of,
    read_bytes,
    read_classes,
)
from uniperceiver.data.sources.lines import index_lines
from uniperceiver.errors import BrokenSample, UserError, nearest
from uniperceiver.records import Sample
from uniperceiver.strict import record

_NO_LABEL = -1  # nobody asked for one
_EMPTY_LABEL = -2  # the row has none


@record
class TsvSource:
    """A sample per row. Without a header, columns are named by their number: "0", "1", ..."""

    path: str
    """The file."""
    text: str
    """Column with the text."""
    text_pair: str | None = None
    """Column with a second text, which follows the first after a space."""
    label: str | None = None
    """Column with the class: names, or integers from 0."""
    classes: str | tuple[str, ...] | None = None
    """Class names in label order, or a file with one per line; None: the labels that occur, sorted."""
    header: bool = True
    """The first row names the columns."""

    def open(self, base: Path, where: str) -> "TsvData":
        """Find the rows and read their labels."""
        path = existing_file(base, self.path, where)
        lines = index_lines(path, where)
        if len(lines.start_L) <= self.header:
            raise UserError(f"{where}: {path}: no rows{' below the header' if self.header else ''}; is it complete?")
        row_N2 = np.stack([lines.start_L, lines.stop_L], axis=1)
        columns = self._columns(read_bytes(path, path.name, *_span(row_N2, 0)), path, where)
        pair = () if self.text_pair is None else (self.text_pair,)
        texts = tuple(_column(name, columns, path, where) for name in (self.text, *pair))
        label = None if self.label is None else _column(self.label, columns, path, where)
        row_N2, number_N = row_N2[int(self.header) :], lines.number_L[int(self.header) :]
        labels = None if label is None else _read_column(path, row_N2, label, len(columns))
        names, label_N = self._labels(labels, number_N, base, path, where)
        return TsvData(
            path=path,
            columns=len(columns),
            text_columns=texts,
            class_names=names,
            row_N2=row_N2,
            number_N=number_N,
            label_N=label_N,
        )

    def _columns(self, first: bytes, path: Path, where: str) -> list[str]:
        try:
            cells = first.decode("utf-8").rstrip("\r").split("\t")
        except UnicodeDecodeError:
            raise UserError(f"{where}: {path}: the first row is not valid UTF-8; save the file as UTF-8") from None
        return [cell.strip() for cell in cells] if self.header else [str(place) for place in range(len(cells))]

    def _labels(
        self, labels: list[str] | None, number_N: np.ndarray, base: Path, path: Path, where: str
    ) -> tuple[tuple[str, ...] | None, np.ndarray]:
        """Class names, and the (N,) int32 label of each row."""
        if labels is None:
            if self.classes is not None:
                raise UserError(f"{where}: key 'classes' needs key 'label': the column with the class")
            return None, np.full(len(number_N), _NO_LABEL, dtype=np.int32)
        names = _sorted(labels) if self.classes is None else read_classes(base, self.classes, where)
        if not names:
            raise UserError(f"{where}: {path}: column {self.label!r} is empty; name the column with the class")
        index_of = {name: label for label, name in enumerate(names)}
        meant = {value: label_of(value, index_of) for value in set(labels) if value}
        if unknown := sorted(value for value, label in meant.items() if label is None):
            place = f"{path}:{number_N[labels.index(unknown[0])]}"
            raise UserError(f"{where}: {place}: label {unknown[0]!r} is not in `classes`; {nearest(unknown[0], names)}")
        return names, np.array([meant[value] if value else _EMPTY_LABEL for value in labels], dtype=np.int32)


@dataclass(frozen=True, kw_only=True)
class TsvData:
    """The opened table."""

    path: Path
    columns: int
    text_columns: tuple[int, ...]
    class_names: tuple[str, ...] | None
    row_N2: np.ndarray  # (N, 2) int64, first byte and byte after the last
    number_N: np.ndarray  # int64, line in the file, from 1
    label_N: np.ndarray  # int32, index into class_names, or _NO_LABEL, _EMPTY_LABEL

    @property
    def classes(self) -> tuple[tuple[str, ...], ...] | None:
        """Texts per class."""
        return None if self.class_names is None else class_texts(self.class_names)

    def __len__(self) -> int:
        return len(self.number_N)

    def read(self, index: int) -> Sample:
        """The row's text and class."""
        name = f"{self.path.name}:{self.number_N[index]}"
        text = self._text(read_bytes(self.path, name, *_span(self.row_N2, index)), name)
        label = int(self.label_N[index])
        if label == _EMPTY_LABEL:
            raise BrokenSample(name, "no label")
        return Sample(id=name, text=text, label=None if label == _NO_LABEL else label)

    def texts(self) -> Iterator[str]:
        """The class texts, then the text of every row that is not broken."""
        yield from (text for texts in self.classes or () for text in texts)
        with open(self.path, "rb") as file:
            for start, stop in self.row_N2.tolist():
                file.seek(start)
                try:
                    yield self._text(file.read(stop - start), self.path.name)
                except BrokenSample:
                    continue

    def _text(self, row: bytes, name: str) -> str:
        cells = row.split(b"\t")
        if len(cells) != self.columns:
            raise BrokenSample(name, f"{len(cells)} columns instead of {self.columns}")
        return " ".join(decode_text(cells[column], name) for column in self.text_columns)


def _span(row_N2: np.ndarray, index: int) -> tuple[int, int]:
    """Offset and size in bytes."""
    start, stop = row_N2[index].tolist()
    return start, stop - start


def _column(name: str, columns: Sequence[str], path: Path, where: str) -> int:
    if name not in columns:
        only = "the columns must be separated by tabs; " if len(columns) == 1 else ""
        raise UserError(f"{where}: {path}: no column {name!r}; {only}{nearest(name, columns)}")
    return list(columns).index(name)


def _read_column(path: Path, row_N2: np.ndarray, column: int, columns: int) -> list[str]:
    """The cells of a column; empty in rows that have too few or too many columns."""
    values = []
    with open(path, "rb") as file:
        for start, stop in row_N2.tolist():
            file.seek(start)
            cells = file.read(stop - start).split(b"\t")
            values.append(cells[column].decode("utf-8", "replace").strip() if len(cells) == columns else "")
    return values


def _sorted(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels that occur, by number if all are numbers."""
    names = {label for label in labels if label}
    numbers = all(name.isascii() and name.removeprefix("-").isdigit() for name in names)
    return tuple(sorted(names, key=(lambda name: (int(name), name)) if numbers else None))
