"""BOXES IN TABLES: a row per box, or a column with all things of a picture.

Shape suffixes: J rows of all samples, one sample after the other, I samples, L rows of the table.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from uniperceiver.data.formats.class_list import ClassList, read_classes
from uniperceiver.data.formats.files import class_texts, label_of, sorted_names
from uniperceiver.data.formats.objects.outlines import NO_OUTLINE, OutlinedMasks, outline_of
from uniperceiver.data.formats.objects.things import BoxForm, ThingList, Things
from uniperceiver.data.formats.tables.rows import Rows
from uniperceiver.data.formats.tables.values import plain
from uniperceiver.errors import BrokenSample, UserError, nearest
from uniperceiver.records import Sample

# What others call the entries of a column with things.
BOX_KEYS = ("bbox", "bboxes", "box", "boxes")
CLASS_KEYS = ("category", "categories", "category_id", "label", "labels", "class", "classes")
CROWD_KEYS = ("iscrowd", "is_crowd", "crowd")
AREA_KEYS = ("area", "areas")
_NOTHING = ("", "nan", "none", "null")
_NO_CROWD = ("", "0", "false")


@dataclass(frozen=True, kw_only=True)
class BoxColumns:
    """What a recipe says of the boxes of a table: four columns and a label, or one column with things."""

    box: tuple[str, str, str, str] | None
    label: str | None  # with `box`
    objects: str | None
    form: BoxForm
    shares: bool
    classes: str | tuple[str, ...] | None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        if self.objects is not None:
            return (self.objects,)
        assert self.box is not None
        assert self.label is not None
        return (*self.box, self.label)


@dataclass(frozen=True, kw_only=True)
class MarkedRows:
    """The things of all samples of a table."""

    things: Things
    classes: ClassList
    notes: tuple[str, ...]


class _Entry(NamedTuple):
    """A thing as a row has it."""

    numbers: tuple[float, ...]
    label: str
    crowd: bool = False
    area: float = math.nan
    outline: Any = None  # what COCO has under `segmentation`
    outlined: bool = False  # whether that is there, be it empty


def things_of_rows(
    rows: Rows, columns: BoxColumns, row_J: np.ndarray, stop_I: np.ndarray, base: Any, place: str, where: str
) -> MarkedRows:
    """Read the boxes of all rows that are taken.

    Args:
        row_J: the rows of all samples, one sample after the other.
        stop_I: int64, end of each sample's rows.
        base: the folder that a file of classes starts at.
        place: the folder of the table, for messages that begin with `where`.

    Raises:
        UserError: an unknown class, no class at all, boxes of another form.
    """
    sample_L = np.full(len(rows), -1, dtype=np.int64)
    sample_L[row_J] = np.repeat(np.arange(len(stop_I)), np.diff(stop_I, prepend=0))
    things, texts, first = ThingList(noun="row"), dict[str, int](), dict[str, str]()
    for row, cells in enumerate(rows.scan(columns.columns)):
        if sample_L[row] < 0 or cells is None:
            continue  # a row that is broken is named when it is read
        try:
            for entry in _entries(columns, cells):
                first.setdefault(entry.label, rows.name(row))
                label = texts.setdefault(entry.label, len(texts))
                corners = _corners(entry.numbers, columns.form)
                things.add(int(sample_L[row]), corners, label, rows.name(row), crowd=entry.crowd, area=entry.area)
        except ValueError as error:
            things.refuse(int(sample_L[row]), rows.name(row), str(error))
    if things.refused and not texts:
        raise UserError(f"{where}: {place}: no box can be read; the first: {next(iter(things.refused.values()))}")
    classes = _classes(rows, columns, texts, base, where)
    index_of = {name: label for label, name in enumerate(classes.names)}
    labels: dict[int, int] = {}
    for text, number in texts.items():
        label_or_none = label_of(text, index_of)
        if label_or_none is None:
            raise UserError(f"{where}: {first[text]}: class {text!r} is not in `classes`; {nearest(text, index_of)}")
        labels[number] = label_or_none
    things.relabel(labels)
    sizes = [(0, 0)] * len(stop_I)
    packed, notes = things.things(sizes, place, where, form=columns.form, shares=columns.shares)
    return MarkedRows(things=packed, classes=classes, notes=notes)


def with_objects(sample: Sample, value: Any, index_of: Mapping[str, int], column: str) -> Sample:
    """The sample with the things that a value of its own lists; nothing is a picture of nothing.

    Args:
        value: as in a column with all things of a picture, boxes as x, y, width, height; bytes: the same as JSON.
        index_of: label by class name.
        column: what the value is called in messages.

    Raises:
        BrokenSample: a thing is none, or of another class.
    """
    things, outlined = ThingList(noun="thing"), False
    try:
        for number, entry in enumerate(_of_column(value)):
            if (label := label_of(entry.label, dict(index_of))) is None:
                raise ValueError(f"class {entry.label!r} means none of the {len(index_of)} classes")
            outline, outlined = outline_of(entry.outline, None), outlined or entry.outlined
            if outline.fault is not None:
                raise ValueError(outline.fault)
            corners = _corners(entry.numbers, "xywh")
            things.add(0, corners, label, number, crowd=entry.crowd, area=entry.area, outline=outline.data)
    except ValueError as error:
        raise BrokenSample(sample.id, f"{column}: {error}") from None
    packed, _ = things.things([(0, 0)], column, sample.id, checked=False)
    sample = packed.added(0, sample)
    if sample.masks is None and outlined:  # things without a mask, in data that have masks
        assert sample.boxes is not None
        empty = OutlinedMasks(outlines=(NO_OUTLINE,) * len(sample.boxes), size=(1, 1), drawn=(1, 1))
        sample = replace(sample, masks=empty)
    return sample


def _classes(rows: Rows, columns: BoxColumns, texts: Mapping[str, int], base: Any, where: str) -> ClassList:
    """The classes that the recipe lists, or the table, or else those that occur, sorted."""
    if columns.classes is not None:
        return read_classes(base, columns.classes, where)
    column = columns.label or columns.objects
    assert column is not None
    names = rows.class_names(column) or sorted_names(texts)
    if not names:
        raise UserError(f"{where}: no row names a class in column {column!r}; name the column, or the classes")
    return ClassList(names=names, texts=class_texts(names))


def _entries(columns: BoxColumns, cells: Sequence[Any]) -> Iterator[_Entry]:
    """The things of a row.

    Raises:
        ValueError: a box or a class that is none.
    """
    if columns.objects is not None:
        yield from _of_column(cells[0])
        return
    *numbers, label = cells
    if all(str(value if value is not None else "").strip().lower() in _NOTHING for value in numbers):
        return
    yield _Entry(_numbers(numbers), _class(label))


def _of_column(value: Any) -> Iterator[_Entry]:
    """The things in a cell: a mapping of lists, a list of mappings, or one of these as JSON."""
    if isinstance(value, str | bytes):
        try:
            value = json.loads(value or "[]")
        except (ValueError, RecursionError):
            raise ValueError("objects that are neither lists nor JSON") from None
    if value is None:
        return
    if isinstance(value, list):
        entries = value
    elif isinstance(value, dict):
        lists = {key: items for key, items in value.items() if isinstance(items, list)}
        if len({len(items) for items in lists.values()}) > 1:
            lengths = ", ".join(f"{len(items)} of {key}" for key, items in lists.items())
            raise ValueError(f"objects of different lengths ({lengths})")
        entries = [dict(zip(lists, items, strict=True)) for items in zip(*lists.values(), strict=True)]
    else:
        raise ValueError(f"objects that are {type(value).__name__}, neither a mapping nor a list")
    for entry in entries:
        if not isinstance(entry, dict):
            raise ValueError(f"a thing that is {json.dumps(entry, default=str)[:60]}, no mapping")
        box, area = _of_keys(entry, BOX_KEYS), _of_keys(entry, AREA_KEYS)
        crowd = str(_of_keys(entry, CROWD_KEYS) or "").lower() not in _NO_CROWD
        number = isinstance(area, int | float) and math.isfinite(area)
        yield _Entry(
            _numbers(box if isinstance(box, list | tuple) else [box]),
            _class(_of_keys(entry, CLASS_KEYS)),
            crowd,
            float(area) if area is not None and number else math.nan,
            entry.get("segmentation"),
            "segmentation" in entry,
        )


def _of_keys(entry: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((entry[key] for key in keys if key in entry), None)


def _numbers(values: Sequence[Any]) -> tuple[float, ...]:
    """The four numbers of a box.

    Raises:
        ValueError: they are none.
    """
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"a box that is {json.dumps(list(values), default=str)[:60]}, not four numbers")
    return numbers


def _class(value: Any) -> str:
    """The class of a thing, by name or index.

    Raises:
        ValueError: there is none.
    """
    text = plain(value)
    if not text or text.lower() == "nan":
        raise ValueError("a thing without a class")
    return text


def _corners(numbers: Sequence[float], form: BoxForm) -> tuple[float, float, float, float]:
    """A box as x0 y0 x1 y1."""
    a, b, c, d = numbers
    match form:
        case "xyxy":
            return a, b, c, d
        case "xywh":
            return a, b, a + c, b + d
        case "cxcywh":
            return a - c / 2, b - d / 2, a + c / 2, b + d / 2
