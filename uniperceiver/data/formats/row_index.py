"""What of the rows has to be known at the start: which are taken, which belong together, and their labels."""

import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uniperceiver.data.formats.cells import label_of_row, path_of, plain
from uniperceiver.data.formats.files import label_of, read_classes, sorted_names
from uniperceiver.data.formats.rows import Rows
from uniperceiver.errors import BrokenSample, UserError, nearest

NO_CLASS = -1  # nobody asked for one
NO_LABEL = -2  # the row has none
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+]+:/")  # https://..., which a path writes with one slash
_MOST_VALUES = 1000  # of a column, that are kept to offer the nearest


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked of the rows."""

    media: str | None  # column with the paths of pictures or clips
    folder: Path  # that they start at
    label: str | None  # column
    classes: str | tuple[str, ...] | None  # as the recipe says
    chosen: Mapping[str, tuple[str, ...]]  # column -> values; other rows are left out
    gather: bool  # rows with the same path are one sample
    once: bool  # otherwise: a path may stand in one row only


@dataclass(frozen=True, kw_only=True)
class RowIndex:
    """Rows as samples."""

    class_names: tuple[str, ...] | None
    row_M: np.ndarray  # int64, the rows of all samples, one sample after the other
    stop_N: np.ndarray  # int64, end of each sample's rows
    label_N: np.ndarray  # int32, index into class_names, or NO_CLASS, NO_LABEL


@dataclass
class _Found:
    """What one pass over the rows has found; a few bytes per row."""

    row: "array[int]" = field(default_factory=lambda: array("q"))  # of those that are taken
    path: "array[int]" = field(default_factory=lambda: array("q"))  # hash of its path
    value: "array[int]" = field(default_factory=lambda: array("i"))  # index into `values`, or NO_LABEL
    values: dict[str, int] = field(default_factory=dict)  # labels that occur, in all rows
    there: bool = False  # a file that a row names is there
    missing: Path | None = None  # the first that is not
    met: set[str] = field(default_factory=set)  # columns in which some row has a chosen value
    others: dict[str, set[str]] = field(default_factory=dict)  # other values, by column


def index_rows(rows: Rows, wanted: Wanted, base: Path, where: str) -> RowIndex:
    """Choose, gather and label the rows in one pass.

    Raises:
        UserError: an unknown label, no row left, a picture twice, none of the files there.
    """
    given = None if wanted.classes is None else read_classes(base, wanted.classes, where)
    listed = None if wanted.label is None else rows.class_names(wanted.label)
    found = _scan(rows, wanted, given or listed or ())
    if not found.row:
        raise UserError(f"{where}: {_none_left(found, wanted)}")
    if found.missing is not None and not found.there:
        raise UserError(f"{where}: {_none_there(found.missing, wanted)}")
    row_R, value_R = (np.array(each, dtype=np.int64) for each in (found.row, found.value))
    names, label_R = _labels(found, value_R, row_R, rows, wanted, given or listed, where)
    if wanted.media is None or not (wanted.gather or wanted.once):
        return RowIndex(class_names=names, row_M=row_R, stop_N=np.arange(1, len(row_R) + 1), label_N=label_R)
    order_R, stop_N = _together(np.array(found.path, dtype=np.int64))
    if not wanted.gather and len(stop_N) < len(row_R):
        first, second = _first_pair(order_R, stop_N)
        raise UserError(
            f"{where}: column {wanted.media!r} names one file in {rows.name(row_R[first])} and "
            f"{rows.name(row_R[second])}; leave one of them out"
        )
    label_R = label_R[order_R]
    first_N = np.concatenate([[0], stop_N[:-1]])
    other_R = np.flatnonzero(label_R != np.repeat(label_R[first_N], np.diff(stop_N, prepend=0)))
    if len(other_R):
        first = int(first_N[np.searchsorted(stop_N, other_R[0], side="right")])
        one, other = (rows.name(row_R[order_R[place]]) for place in (first, other_R[0]))
        raise UserError(f"{where}: {one} and {other} name one file with two labels; a file has one class")
    return RowIndex(class_names=names, row_M=row_R[order_R], stop_N=stop_N, label_N=label_R[first_N])


def _scan(rows: Rows, wanted: Wanted, names: tuple[str, ...]) -> _Found:
    found = _Found()
    columns = list(dict.fromkeys([*wanted.chosen, *(each for each in (wanted.label, wanted.media) if each)]))
    if not columns:
        found.row = array("q", range(len(rows)))
        return found
    for row, cells in enumerate(rows.scan(columns)):
        # A row that is broken may belong to the chosen ones: it stays, and is named when it is read.
        values = None if cells is None else dict(zip(columns, cells, strict=True))
        if wanted.label is not None:
            value = NO_LABEL if values is None else _value(values[wanted.label], found, wanted.label, names)
        if values is not None and not _is_chosen(values, found, wanted):
            continue
        found.row.append(row)
        if wanted.label is not None:
            found.value.append(value)
        if wanted.media is not None:
            path = None if values is None else path_of(values[wanted.media])
            found.path.append(hash((path, row if path is None else 0)))
            if path is not None and not found.there:
                _look_for(wanted.folder / path, found)
    return found


def _value(value: Any, found: _Found, column: str, names: tuple[str, ...]) -> int:
    try:
        text = label_of_row(value, column, "", names)
    except BrokenSample:
        return NO_LABEL
    return found.values.setdefault(text, len(found.values))


def _is_chosen(values: Mapping[str, Any], found: _Found, wanted: Wanted) -> bool:
    taken = True
    for column, chosen in wanted.chosen.items():
        try:
            value = plain(values[column])
        except ValueError:
            value = ""
        if value in chosen:
            found.met.add(column)
            continue
        taken = False
        others = found.others.setdefault(column, set())
        if len(others) < _MOST_VALUES:
            others.add(value)
    return taken


def _look_for(path: Path, found: _Found) -> None:
    try:
        found.there = path.is_file()
    except (OSError, ValueError):  # a name that is too long, or has a zero byte
        found.there = False
    if not found.there and found.missing is None:
        found.missing = path


def _labels(
    found: _Found,
    value_R: np.ndarray,
    row_R: np.ndarray,
    rows: Rows,
    wanted: Wanted,
    names: tuple[str, ...] | None,
    where: str,
) -> tuple[tuple[str, ...] | None, np.ndarray]:
    """Class names, and the (R,) int32 label of each row that is taken."""
    if wanted.label is None:
        return None, np.full(len(row_R), NO_CLASS, dtype=np.int32)
    names = sorted_names(found.values) if names is None else names
    if not names or not (value_R >= 0).any():
        raise UserError(f"{where}: column {wanted.label!r} is empty; name the column with the class")
    index_of = {name: label for label, name in enumerate(names)}
    meant = [label_of(value, index_of) for value in found.values]
    for value, place in found.values.items():
        if meant[place] is None and len(first := np.flatnonzero(value_R == place)):
            raise UserError(
                f"{where}: {rows.name(row_R[first[0]])}: label {value!r} is not in `classes`; {nearest(value, names)}"
            )
    table = np.array([NO_LABEL if each is None else each for each in meant], dtype=np.int32)
    return names, np.where(value_R >= 0, table[value_R.clip(0)], NO_LABEL).astype(np.int32)


def _together(path_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of rows so that those with one path follow each other, in the order in which paths occur first; and the
    end of each path's rows."""
    _, first_N, group_R, count_N = np.unique(path_R, return_index=True, return_inverse=True, return_counts=True)
    by_place_N = np.argsort(first_N)
    rank_N = np.empty_like(by_place_N)
    rank_N[by_place_N] = np.arange(len(by_place_N))
    return np.argsort(rank_N[group_R], kind="stable"), np.cumsum(count_N[by_place_N])


def _first_pair(order_R: np.ndarray, stop_N: np.ndarray) -> tuple[int, int]:
    """Places of the first two rows with one path."""
    group = int(np.flatnonzero(np.diff(stop_N, prepend=0) > 1)[0])
    start = int(stop_N[group - 1]) if group else 0
    return int(order_R[start]), int(order_R[start + 1])


def _none_left(found: _Found, wanted: Wanted) -> str:
    for column in wanted.chosen:
        if column not in found.met:
            value = wanted.chosen[column][0]
            return f"rows: no row has {value!r} in column {column!r}; {nearest(value, found.others.get(column, ()))}"
    return f"rows: no row has all of {', '.join(wanted.chosen)} as wanted; take more values"


def _none_there(missing: Path, wanted: Wanted) -> str:
    if _ADDRESS.search(missing.as_posix()):
        return f"column {wanted.media!r} holds addresses, not files; download them first and name the files"
    return (
        f"column {wanted.media!r}: none of the files is there, not even {missing}; set key files to the folder that "
        "the paths start at"
    )
