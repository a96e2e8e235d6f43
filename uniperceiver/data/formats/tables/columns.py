"""COLUMNS -> SAMPLES: the keys that csv, tsv, jsonl, parquet and huggingface share, and what is made of a row.

Shape suffixes: J rows of all samples, one sample after the other, I samples, L rows of the table.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from uniperceiver.data.formats.files import existing_folder
from uniperceiver.data.formats.objects.things import BoxForm, Things
from uniperceiver.data.formats.tables.box_columns import BoxColumns, things_of_rows
from uniperceiver.data.formats.tables.label_column import LabelColumn
from uniperceiver.data.formats.tables.media_column import MediaColumn
from uniperceiver.data.formats.tables.rows import LABEL_SET, NO_LABEL, RowQuery, Rows, index_rows, notes_of_rows
from uniperceiver.data.formats.tables.values import (
    left_out_captions,
    text_of,
    texts_of,
)
from uniperceiver.errors import BrokenSample, UserError, listed
from uniperceiver.records import Sample
from uniperceiver.strict import record


@record
class Columns:
    """Which column holds what; a format adds where the rows are."""

    image: str | None = None
    """Column with the picture: a path or, where the format can hold them, its bytes; or a template of the path, with
    columns in braces: "{id}.jpg"."""
    clip: str | None = None
    """Column with the clip, likewise."""
    audio: str | None = None
    """Column with the sound, likewise, perhaps beside the clip that it belongs to; sound tracks of clips need none."""
    text: str | None = None
    """Column with a text to read."""
    text_pair: str | None = None
    """Column with a second text, which follows the first after a space; of both the longer one is cut."""
    captions: str | tuple[str, ...] | None = None
    """Column, or label_sets, with the captions of the image, clip or sound; a value may be a list of them. Rows with
    the same file are one sample with all their captions, unless there is a text to read."""
    label: str | tuple[str, ...] | None = None
    """Column with the class: names, or integers from 0; or with several classes: a list of them, or see `separator`.
    A list of columns: one for each class, named after it, with 1 where it is right and else 0."""
    separator: str | None = Field(default=None, min_length=1)
    """What stands between several classes in a cell of `label`, such as "|"."""
    classes: str | tuple[str, ...] | None = None
    """Class names in label order, or a file that lists them, perhaps with their texts; None: those that the file
    lists, or else the labels that occur, sorted."""
    box: tuple[str, str, str, str] | None = None
    """Four columns with a box, whose class is in `label`: rows with the same image are one sample, and a row without
    numbers says that there is nothing in it."""
    objects: str | None = None
    """Column with all things of a picture: {bbox: [...], category: [...]}, or a list of {bbox, category}."""
    box_form: BoxForm | None = None
    """The numbers of a box: xyxy (corners), xywh (a corner, width, height) or cxcywh (the centre, width, height);
    None: xyxy for `box`, xywh for `objects`."""
    box_shares: bool = False
    """Whether boxes are shares of the picture's sides, not pixels."""
    files: str | None = None
    """The folder that relative paths in the columns start at; None: that of the file."""
    rows: dict[str, str | tuple[str, ...]] | None = None
    """Take only rows that have this value, or one of these, in that column, such as {split: train}."""

    @property
    def caption_columns(self) -> tuple[str, ...]:
        """The columns with captions."""
        return _as_tuple(self.captions or ())

    def media_columns(self, where: str) -> tuple[MediaColumn, ...]:
        """Where pictures, clips and sounds lie.

        Raises:
            UserError: a template that cannot be read.
        """
        named = {"image": ("image", self.image), "clip": ("video", self.clip), "audio": ("audio", self.audio)}
        return tuple(
            MediaColumn.of(modality, key, says, where) for key, (modality, says) in named.items() if says is not None
        )

    def named_columns(self, where: str) -> tuple[str, ...]:
        """All columns that the recipe names, each once.

        Raises:
            UserError: together they make no sample.
        """
        media = [name for column in self.media_columns(where) for name in column.columns]
        texts = [name for name in (self.text, self.text_pair) if name is not None]
        if not media and self.text is None:
            raise UserError(
                f"{where}: no column to learn from; set key text, image, clip or audio to the name of a column"
            )
        if self.text_pair is not None and self.text is None:
            raise UserError(f"{where}: key 'text_pair' needs key 'text': the column with the first text")
        if self.caption_columns and not media:
            raise UserError(
                f"{where}: key 'captions' needs key 'image', 'clip' or 'audio'; for texts alone use key 'text'"
            )
        if self.classes is not None and self.label is None and self.objects is None:
            raise UserError(f"{where}: key 'classes' needs key 'label': the column with the class")
        if self.separator is not None and not isinstance(self.label, str):
            raise UserError(
                f"{where}: key 'separator' needs key 'label': the one column whose cells hold several classes"
            )
        self._refuse_odd_boxes(where)
        label = _as_tuple(self.label or ())
        boxes = (*(self.box or ()), *([self.objects] if self.objects is not None else ()))
        return tuple(dict.fromkeys([*media, *texts, *self.caption_columns, *label, *boxes, *(self.rows or {})]))

    def _refuse_odd_boxes(self, where: str) -> None:
        """Refuse keys about boxes that have no meaning together.

        Raises:
            UserError: there are some.
        """
        if self.box is None and self.objects is None:
            if self.box_form is not None or self.box_shares:
                raise UserError(f"{where}: keys 'box_form' and 'box_shares' need key 'box' or 'objects'")
            return
        if self.box is not None and self.objects is not None:
            raise UserError(
                f"{where}: keys 'box' (a row per thing) and 'objects' (a row per picture): give one of them"
            )
        if self.image is None or any(key is not None for key in (self.text, self.clip, self.audio)):
            raise UserError(f"{where}: boxes need key 'image', the column with their picture, and no text, clip, audio")
        if self.box is not None and not isinstance(self.label, str):
            raise UserError(f"{where}: key 'box' needs key 'label': the column with the class of the thing in the box")
        if self.objects is not None and self.label is not None:
            raise UserError(f"{where}: key 'objects' has the classes in its own column; leave key 'label' out")

    def _box_columns(self) -> BoxColumns:
        return BoxColumns(
            box=self.box,
            label=self.label if isinstance(self.label, str) else None,
            objects=self.objects,
            form=self.box_form or ("xywh" if self.box is None else "xyxy"),
            shares=self.box_shares,
            classes=self.classes,
        )

    def samples(self, rows: Rows, home: Path, base: Path, where: str, others: tuple[str, ...] = ()) -> "ColumnsData":
        """What the rows are as samples.

        Args:
            home: the folder that paths in the rows start at, unless the recipe names another.
            others: lines about files that are not taken.

        Raises:
            UserError: an unknown label, no row left, a picture twice, none of the files there.
        """
        folder = home if self.files is None else existing_folder(base, self.files, f"{where}: files")
        media = self.media_columns(where)
        query = RowQuery(
            media=next((name for name in media if name.parts or rows.holds_paths(name.says)), None),
            folder=folder,
            # A row with a box has the class of a thing, not of the picture.
            label=LabelColumn.of(self.label, self.separator) if self.box is None else None,
            classes=self.classes if self.box is None and self.objects is None else None,
            chosen={name: _as_tuple(values) for name, values in (self.rows or {}).items()},
            gather=bool(self.caption_columns or self.box) and self.text is None,
            once=self.text is None,
            captions=self.caption_columns,
        )
        index = index_rows(rows, query, base, where)
        gathered = (
            f"{home}: {len(index.row_J):,} rows are {len(index.stop_I):,} samples: those with one file are one sample "
            "with all their captions"
        )
        marked = None
        if self.box is not None or self.objects is not None:
            marked = things_of_rows(rows, self._box_columns(), index.row_J, index.stop_I, base, str(home), where)
        classes = index.classes if marked is None else marked.classes
        return ColumnsData(
            rows=rows,
            keys=self,
            folder=folder,
            media=media,
            class_names=None if classes is None else classes.names,
            classes=None if classes is None else classes.texts,
            things=None if marked is None else marked.things,
            row_J=index.row_J,
            stop_I=index.stop_I,
            label_I=index.label_I,
            label_sets=index.label_sets,
            notes=(
                *others,
                *(f"{home}: {note}" for note in index.notes),
                *notes_of_rows(rows),
                *left_out_captions(home, index.captions_left_out),
                *(() if marked is None else marked.notes),
                *([gathered] if self.box is None and len(index.stop_I) < len(index.row_J) else []),
            ),
        )


@dataclass(frozen=True, kw_only=True)
class ColumnsData:
    """The opened rows. What breaks a row (no UTF-8, NaN, an empty text, no label) is found when it is read: a few
    bad rows are a matter of counting, whereas an unknown label or a missing column is wrong for all."""

    rows: Rows
    keys: Columns
    folder: Path
    media: tuple[MediaColumn, ...]
    class_names: tuple[str, ...] | None
    classes: tuple[tuple[str, ...], ...] | None  # texts per class
    row_J: np.ndarray  # int64
    stop_I: np.ndarray  # int64, end of each sample's rows
    label_I: np.ndarray  # int32, index into class_names, or NO_LABEL, NO_CLASS, LABEL_SET
    label_sets: Mapping[int, tuple[int, ...]]  # classes of rows with LABEL_SET
    things: Things | None = None  # of the pictures; None: the table has no boxes
    notes: tuple[str, ...] = ()

    @property
    def has_masks(self) -> bool:
        """Never: a table has boxes alone."""
        return False

    @property
    def fault(self) -> str | None:
        """Why the boxes of a picture cannot be used; None: nothing is known to be wrong."""
        return None if self.things is None else self.things.fault

    def __len__(self) -> int:
        return len(self.stop_I)

    def read(self, index: int) -> Sample:
        """The sample of a row, or of all rows with one image."""
        rows = self.row_J[self.stop_I[index - 1] if index else 0 : self.stop_I[index]].tolist()
        name, keys = self.rows.name(rows[0]), self.keys
        values = [self.rows.read(row) for row in rows]
        label = int(self.label_I[index])
        if label == NO_LABEL:
            column = LabelColumn.of(keys.label, keys.separator)
            assert column is not None
            labels = column.texts(values[0], name, self.class_names or ())
            raise BrokenSample(name, f"label {listed(labels)} was not there when the file was opened; it has changed")
        data = {column.modality: column.read(values[0], self.folder, name) for column in self.media}
        captions, faults = [], []
        for row, value in zip(rows, values, strict=True):
            texts, damage = self._captions(value, self.rows.name(row))
            captions += texts
            faults += damage
        if faults and not captions:
            raise faults[0]
        texts = self._texts(values[0], name)
        sample = Sample(
            id=name,
            text=" ".join(texts) if texts else None,
            second=len(texts[0]) + 1 if len(texts) > 1 else None,
            captions=tuple(captions),
            label=label if label >= 0 else None,
            labels=self.label_sets.get(rows[0], ()),
        )
        for modality, medium in data.items():
            sample = sample.with_value(modality, medium)
        return sample if self.things is None else self.things.added(index, sample)

    def names(self) -> Iterator[tuple[str, ...]]:
        """What a list may call each sample: its row or, where the rows have one, its path."""
        first_I = np.concatenate([[0], self.stop_I[:-1]])
        is_first_L = np.zeros(len(self.rows), dtype=bool)
        is_first_L[self.row_J[first_I]] = True
        paths: dict[int, str] = {}
        column = next(iter(self.media), None)
        for row, cells in enumerate(self.rows.scan(column.columns) if column is not None else ()):
            if column is None or cells is None or not is_first_L[row]:
                continue
            if (path := column.path(dict(zip(column.columns, cells, strict=True)))) is not None:
                paths[row] = path
        for row in self.row_J[first_I].tolist():
            yield (self.rows.name(row), paths[row]) if row in paths else (self.rows.name(row),)

    def counts_of(self, index_I: np.ndarray) -> np.ndarray | None:
        """How many single things each of these pictures has; None: the table has no boxes."""
        return None if self.things is None else self.things.counts_of(index_I)

    def labels_of(self, index_I: np.ndarray) -> frozenset[int]:
        """The classes that some of these samples have."""
        if self.things is not None:
            return self.things.classes_of(index_I)
        label_I, first_I = self.label_I[index_I], np.concatenate([[0], self.stop_I[:-1]])[index_I]
        rows = self.row_J[first_I[label_I == LABEL_SET]].tolist()
        return frozenset(np.unique(label_I[label_I >= 0]).tolist()).union(*(self.label_sets[row] for row in rows))

    def texts(self) -> Iterator[str]:
        """The class texts, then the texts and captions of every row that is not broken."""
        yield from (text for texts in self.classes or () for text in texts)
        keys = self.keys
        columns = [name for name in (keys.text, keys.text_pair, *keys.caption_columns) if name is not None]
        if not columns:
            return
        is_taken_L = np.zeros(len(self.rows), dtype=bool)
        is_taken_L[self.row_J] = True
        for row, cells in enumerate(self.rows.scan(columns)):
            if is_taken_L[row] and cells is not None:
                yield from self._readable(dict(zip(columns, cells, strict=True)))

    def _readable(self, values: Mapping[str, Any]) -> Iterator[str]:
        try:
            texts = self._texts(values, "")
        except BrokenSample:
            return
        yield from (*([" ".join(texts)] if texts else []), *self._captions(values, "")[0])

    def _texts(self, values: Mapping[str, Any], name: str) -> list[str]:
        columns = [column for column in (self.keys.text, self.keys.text_pair) if column is not None]
        return [text_of(values[column], column, name) for column in columns]

    def _captions(self, values: Mapping[str, Any], name: str) -> tuple[list[str], list[BrokenSample]]:
        """The captions of a row, and what is wrong with those that are left out."""
        captions, faults = [], []
        for column in self.keys.caption_columns:
            texts, damage = texts_of(values[column], f"column {column!r}", name)
            captions += texts
            faults += damage
        return captions, faults


def _as_tuple(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names
