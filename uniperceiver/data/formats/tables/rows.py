"""ROWS: what the tables have in common, whatever kind of file the rows lie in, and what must be known of all rows at
the start: which are taken, which belong together, and their labels.

Shape suffixes: J rows that are taken, I samples, P files.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from uniperceiver.data.formats.class_list import ClassList, read_classes
from uniperceiver.data.formats.files import as_spelt_there, class_texts, label_of, short_names, sorted_names
from uniperceiver.data.formats.tables.label_column import LabelColumn, joined_labels
from uniperceiver.data.formats.tables.media_column import MediaColumn
from uniperceiver.data.formats.tables.missing import why_no_file
from uniperceiver.data.formats.tables.values import plain, texts_of
from uniperceiver.errors import BrokenSample, UserError, nearest

NO_CLASS = -1  # no label column is named
NO_LABEL = -2  # the row has no label
LABEL_SET = -3  # the row has several classes, or can have several and has none
_MOST_VALUES = 1000  # of a column, that are kept to offer the nearest


class Rows(Protocol):
    """Some columns of a table: an index in memory, rows on demand. It can be pickled and forked."""

    def __len__(self) -> int:
        """How many rows there are."""

    def name(self, index: int) -> str:
        """Where the row stands, such as table.csv:17."""

    def read(self, index: int) -> Mapping[str, Any]:
        """The row's values by column.

        Raises:
            BrokenSample: it has none.
        """

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[Any, ...] | None]:
        """The values of some columns, row after row; None where a row is broken. Nothing large is read: of a
        picture that lies in the file comes its path, or else None."""

    def holds_paths(self, column: str) -> bool:
        """Whether pictures in that column are paths, not bytes."""

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """The classes, in their order, that the file itself lists for a column; its values are names then."""


@dataclass(frozen=True, kw_only=True)
class ConcatenatedRows:
    """The rows of several files, one after the other."""

    files: tuple[Rows, ...]
    stop_P: np.ndarray  # int64, end of each file among all rows

    def __len__(self) -> int:
        return int(self.stop_P[-1])

    def name(self, index: int) -> str:
        """Where the row stands."""
        rows, row = self._locate(index)
        return rows.name(row)

    def read(self, index: int) -> Mapping[str, Any]:
        """The row's values by column."""
        rows, row = self._locate(index)
        return rows.read(row)

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[Any, ...] | None]:
        """The values of some columns."""
        for rows in self.files:
            yield from rows.scan(columns)

    def holds_paths(self, column: str) -> bool:
        """Whether pictures in that column are paths."""
        return all(rows.holds_paths(column) for rows in self.files)

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """The classes that the files list, if all list the same."""
        names = {rows.class_names(column) for rows in self.files}
        return names.pop() if len(names) == 1 else None

    def _locate(self, index: int) -> tuple[Rows, int]:
        file = int(np.searchsorted(self.stop_P, index, side="right"))
        return self.files[file], index - (int(self.stop_P[file - 1]) if file else 0)


def notes_of_rows(rows: Rows) -> tuple[str, ...]:
    """What is to be said of the files that rows come from."""
    files: Sequence[Any] = rows.files if isinstance(rows, ConcatenatedRows) else (rows,)
    return tuple(note for file in files for note in getattr(file, "notes", ()))


def open_all(files: Sequence[Path], open_file: Callable[[Path, str], Rows]) -> Rows:
    """The rows of all files; `open_file` gets a file and its short name."""
    opened = tuple(open_file(file, name) for file, name in zip(files, short_names(files), strict=True))
    if len(opened) == 1:
        return opened[0]
    return ConcatenatedRows(files=opened, stop_P=np.cumsum([len(rows) for rows in opened], dtype=np.int64))


def check_columns(named: Sequence[str], present: Sequence[str], what: object, where: str, hint: str = "") -> None:
    """Every column that a recipe names must be in the table, once.

    Raises:
        UserError: one is not; the nearest is offered.
    """
    for name in named:
        if name not in present:
            raise UserError(f"{where}: {what}: no column {name!r}; {hint}{nearest(name, present)}")
        if list(present).count(name) > 1:
            raise UserError(f"{where}: {what}: two columns {name!r}; rename one of them")


@dataclass(frozen=True, kw_only=True)
class RowQuery:
    """What a recipe asks of the rows."""

    media: MediaColumn | None  # with the paths of pictures or clips
    folder: Path  # that they start at
    label: LabelColumn | None
    classes: str | tuple[str, ...] | None  # as the recipe says
    chosen: Mapping[str, tuple[str, ...]]  # column -> values; other rows are left out
    gather: bool  # rows with the same path are one sample
    once: bool  # otherwise: a path may stand in one row only
    captions: tuple[str, ...] = ()  # columns, whose damaged values are counted


@dataclass(frozen=True)
class RowIndex:
    """Rows as samples."""

    classes: ClassList | None
    row_J: np.ndarray  # int64, the rows of all samples, one sample after the other
    stop_I: np.ndarray  # int64, end of each sample's rows
    label_I: np.ndarray  # int32, index into the classes, or NO_CLASS, NO_LABEL
    captions_left_out: int = 0  # in all rows that are taken
    label_sets: Mapping[int, tuple[int, ...]] = field(default_factory=dict)  # classes of rows with LABEL_SET
    notes: tuple[str, ...] = ()  # about the labels


@dataclass
class _Scan:
    """What one pass over the rows collects; a few bytes per row."""

    row: "array[int]" = field(default_factory=lambda: array("q"))  # of those that are taken
    path: "array[int]" = field(default_factory=lambda: array("q"))  # hash of its path
    label: "array[int]" = field(default_factory=lambda: array("i"))  # index into `label_texts`, or NO_LABEL
    label_texts: dict[str, int] = field(default_factory=dict)  # labels that occur, in all rows
    label_sets: dict[int, tuple[int, ...]] = field(default_factory=dict)  # indices into them, of rows with LABEL_SET
    no_label: str = ""  # why the first row without a label has none
    captions_left_out: int = 0
    any_row: bool = False  # a row can be read
    any_file: bool = False  # a file that a row names exists
    missing: Path | None = None  # the first that does not
    matched: set[str] = field(default_factory=set)  # columns in which some row has a chosen value
    unmatched: dict[str, set[str]] = field(default_factory=dict)  # other values, by column


def index_rows(rows: Rows, query: RowQuery, base: Path, where: str) -> RowIndex:
    """Choose, gather and label the rows in one pass.

    Raises:
        UserError: an unknown label, no row that can be read, no row left, a picture twice, none of the files there.
    """
    classes = None if query.classes is None else read_classes(base, query.classes, where)
    names = None if classes is None else classes.names
    if names is None and query.label is not None:
        names = query.label.names_listed or rows.class_names(query.label.columns[0]) or None
    scan = _scan(rows, query, names or ())
    if not scan.any_row:
        raise UserError(f"{where}: no row can be read; the first: {_why_broken(rows, 0)}")
    if not scan.row:
        raise UserError(f"{where}: {_why_none_left(scan, query)}")
    if scan.missing is not None and not scan.any_file:
        raise UserError(f"{where}: {why_no_file(scan.missing, query.media, query.folder)}")
    row_J = np.array(scan.row, dtype=np.int64)
    names, label_J, label_sets = _labels(scan, row_J, rows, query, names, where)
    notes = () if query.label is None or classes is not None else joined_labels(query.label, scan.label_texts)
    if names is not None and classes is None:
        classes = ClassList(names=names, texts=class_texts(names))
    if query.media is None or not (query.gather or query.once):
        stop_I = np.arange(1, len(row_J) + 1)
        return RowIndex(classes, row_J, stop_I, label_J, scan.captions_left_out, label_sets, notes)
    order_J, stop_I = _by_path(np.array(scan.path, dtype=np.int64))
    first_I = np.concatenate([[0], stop_I[:-1]])
    row_J, label_J = row_J[order_J], label_J[order_J]
    if not query.gather and len(stop_I) < len(row_J):
        first = int(first_I[np.flatnonzero(np.diff(stop_I, prepend=0) > 1)[0]])
        raise UserError(
            f"{where}: column {query.media.says!r} names one file in {rows.name(row_J[first])} and "
            f"{rows.name(row_J[first + 1])}; leave one of them out"
        )
    sets_J = _numbered_sets(row_J, label_J, label_sets)
    other_J = np.flatnonzero(sets_J != np.repeat(sets_J[first_I], np.diff(stop_I, prepend=0)))
    if len(other_J):
        first = int(first_I[np.searchsorted(stop_I, other_J[0], side="right")])
        first_name, other_name = (rows.name(row_J[row]) for row in (first, other_J[0]))
        raise UserError(f"{where}: {first_name} and {other_name} name one file with two labels; a file has one class")
    return RowIndex(classes, row_J, stop_I, label_J[first_I], scan.captions_left_out, label_sets, notes)


def _scan(rows: Rows, query: RowQuery, names: tuple[str, ...]) -> _Scan:
    scan = _Scan()
    named = [column for columns in (query.label, query.media) if columns for column in columns.columns]
    columns = list(dict.fromkeys([*query.chosen, *named, *query.captions]))
    if not columns:
        scan.row, scan.any_row = array("q", range(len(rows))), True
        return scan
    for row, cells in enumerate(rows.scan(columns)):
        # A row that is broken may belong to the chosen ones: it stays, and is named when it is read.
        values = None if cells is None else dict(zip(columns, cells, strict=True))
        scan.any_row |= values is not None
        if query.label is not None:
            label = NO_LABEL if values is None else _label_index(row, values, scan, query.label, names)
        if values is not None and not _is_chosen(values, scan, query):
            continue
        scan.row.append(row)
        if values is not None:
            scan.captions_left_out += sum(len(texts_of(values[column], column, "")[1]) for column in query.captions)
        if query.label is not None:
            scan.label.append(label)
        if query.media is not None:
            path = None if values is None else query.media.path(values)
            scan.path.append(hash((path, row if path is None else 0)))
            if path is not None and not scan.any_file:
                _look_for(query.folder / path, scan)
    return scan


def _why_broken(rows: Rows, row: int) -> str:
    try:
        rows.read(row)
    except BrokenSample as error:
        return str(error)
    return rows.name(row)


def _label_index(row: int, values: Mapping[str, Any], scan: _Scan, label: LabelColumn, names: tuple[str, ...]) -> int:
    try:
        texts = label.texts(values, "", names)
    except BrokenSample as error:
        scan.no_label = scan.no_label or error.reason
        return NO_LABEL
    indices = tuple(scan.label_texts.setdefault(text, len(scan.label_texts)) for text in texts)
    if len(indices) == 1:
        return indices[0]
    scan.label_sets[row] = indices
    return LABEL_SET


def _is_chosen(values: Mapping[str, Any], scan: _Scan, query: RowQuery) -> bool:
    all_match = True
    for column, chosen in query.chosen.items():
        try:
            value = plain(values[column])
        except ValueError:
            value = ""
        if value in chosen:
            scan.matched.add(column)
            continue
        all_match = False
        unmatched = scan.unmatched.setdefault(column, set())
        if len(unmatched) < _MOST_VALUES:
            unmatched.add(value)
    return all_match


def _look_for(path: Path, scan: _Scan) -> None:
    try:
        scan.any_file = as_spelt_there(path).is_file()
    except (OSError, ValueError):  # a name that is too long, or has a zero byte
        scan.any_file = False
    if not scan.any_file and scan.missing is None:
        scan.missing = path


def _labels(
    scan: _Scan, row_J: np.ndarray, rows: Rows, query: RowQuery, names: tuple[str, ...] | None, where: str
) -> tuple[tuple[str, ...] | None, np.ndarray, Mapping[int, tuple[int, ...]]]:
    """Class names, the (J,) int32 label of each row that is taken, and the labels of rows with label_sets."""
    if query.label is None:
        return None, np.full(len(row_J), NO_CLASS, dtype=np.int32), {}
    text_J = np.array(scan.label, dtype=np.int64)
    names = sorted_names(scan.label_texts) if names is None else names
    taken = {row: scan.label_sets[row] for row in row_J[text_J == LABEL_SET].tolist()}
    if not names or not ((text_J >= 0).any() or any(taken.values())):
        why = scan.no_label or f"{query.label} is empty"
        raise UserError(f"{where}: no row says its class: {why}; name the column with the class")
    index_of = {name: label for label, name in enumerate(names)}
    labels = [label_of(text, index_of) for text in scan.label_texts]
    for text, index in scan.label_texts.items():
        if labels[index] is not None:
            continue
        first = [*row_J[text_J == index][:1].tolist(), *(row for row, indices in taken.items() if index in indices)]
        if first:
            raise UserError(
                f"{where}: {rows.name(first[0])}: label {text!r} is not in `classes`; {nearest(text, names)}"
            )
    table = np.array([NO_LABEL if label is None else label for label in labels], dtype=np.int32)
    label_J = (
        np.where(text_J >= 0, table[text_J.clip(0)], text_J).astype(np.int32) if len(table) else text_J.astype(np.int32)
    )
    return names, label_J, {row: tuple(table[list(indices)].tolist()) for row, indices in taken.items()}


def _numbered_sets(row_J: np.ndarray, label_J: np.ndarray, label_sets: Mapping[int, tuple[int, ...]]) -> np.ndarray:
    """A number for the classes of each row, equal where they are, (J,) int64."""
    numbers: dict[frozenset[int], int] = {}
    set_J = label_J.astype(np.int64)
    for place in np.flatnonzero(label_J == LABEL_SET).tolist():
        set_J[place] = LABEL_SET - numbers.setdefault(frozenset(label_sets[int(row_J[place])]), len(numbers))
    return set_J


def _by_path(path_J: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An order of the rows in which those with one path follow each other, paths as they occur first; and the end of
    each path's rows."""
    _, first_I, group_J, count_I = np.unique(path_J, return_index=True, return_inverse=True, return_counts=True)
    by_first_I = np.argsort(first_I)
    rank_I = np.empty_like(by_first_I)
    rank_I[by_first_I] = np.arange(len(by_first_I))
    return np.argsort(rank_I[group_J], kind="stable"), np.cumsum(count_I[by_first_I])


def _why_none_left(scan: _Scan, query: RowQuery) -> str:
    for column in query.chosen:
        if column not in scan.matched:
            value, others = query.chosen[column][0], scan.unmatched.get(column, ())
            return f"rows: no row has {value!r} in column {column!r}; {nearest(value, others)}"
    return f"rows: no row has all of {', '.join(query.chosen)} as wanted; take more values"
