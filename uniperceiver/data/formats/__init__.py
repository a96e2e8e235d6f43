"""SAMPLES: where data comes from. One file per format; the table below is all that a recipe's `format` can name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from uniperceiver import strict
from uniperceiver.data.formats.arrays import ArraysSource
from uniperceiver.data.formats.captioned_files import BesideSource, FlickrCaptionsSource
from uniperceiver.data.formats.coco_captions import CocoCaptionsSource
from uniperceiver.data.formats.files import composed
from uniperceiver.data.formats.folder import FolderSource
from uniperceiver.data.formats.objects.coco_instances import CocoInstancesSource
from uniperceiver.data.formats.objects.mask_folder import MaskFolderSource
from uniperceiver.data.formats.objects.voc import VocSource
from uniperceiver.data.formats.objects.yolo import YoloSource
from uniperceiver.data.formats.subset import SubsetConfig
from uniperceiver.data.formats.tables.delimited import CsvSource, TsvSource
from uniperceiver.data.formats.tables.file_list import FileListSource
from uniperceiver.data.formats.tables.huggingface import HuggingfaceSource
from uniperceiver.data.formats.tables.json_list import JsonSource
from uniperceiver.data.formats.tables.jsonl import JsonlSource
from uniperceiver.data.formats.tables.parquet import ParquetSource
from uniperceiver.data.formats.text import TextSource
from uniperceiver.data.formats.webdataset import WebdatasetSource
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.data.shared_index import shared
from uniperceiver.errors import UserError, nearest
from uniperceiver.records import Sample


class Source(Protocol):
    """An opened data set: an index in memory, samples on demand. It can be pickled and forked.

    A source may have four things more: `class_names` (see `Named`), `names()` (see `subset.Listing`), which the key
    `only` needs, `labels_of(indices)` (see `labels_there`), and `notes` (see `notes_of`). One with things in pictures
    may have `has_masks` and `fault` (see there, and `fault_of`).
    """

    @property
    def classes(self) -> tuple[tuple[str, ...], ...] | None:
        """Texts per class; None: the samples have no label."""

    def __len__(self) -> int:
        """How many samples there are, broken ones among them."""

    def read(self, index: int) -> Sample:
        """Sample `index` (0 .. len - 1), media still encoded.

        Raises:
            BrokenSample: it cannot be used.
        """

    def texts(self) -> Iterator[str]:
        """All captions, input texts and class texts, for training a tokenizer; no media are decoded."""


class Format(Protocol):
    """What a recipe says about a data set: a `strict.record` whose fields are the format's keys."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def open(self, base: Path, where: str) -> Source:
        """Find the samples; relative paths start at `base`, and messages at `where`.

        Raises:
            UserError: the data are not there or not of this format.
        """


@runtime_checkable
class Named(Protocol):
    """A source whose files name the classes otherwise than a text would: hot_air_balloon, not hot air balloon."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Name per class."""


FORMATS: dict[str, type[Format]] = {
    "folder": FolderSource,
    "files": FileListSource,
    "coco_captions": CocoCaptionsSource,
    "coco_instances": CocoInstancesSource,
    "yolo": YoloSource,
    "voc": VocSource,
    "mask_folder": MaskFolderSource,
    "flickr_captions": FlickrCaptionsSource,
    "beside": BesideSource,
    "arrays": ArraysSource,
    "text": TextSource,
    "csv": CsvSource,
    "tsv": TsvSource,
    "json": JsonSource,
    "jsonl": JsonlSource,
    "parquet": ParquetSource,
    "huggingface": HuggingfaceSource,
    "webdataset": WebdatasetSource,
    "scenes": ScenesSource,
}

# What others call these keys; the first that a format has is offered.
_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "sep": ("delimiter",),
    "separator": ("delimiter",),
    "quoting": ("quotes",),
    "root": ("files", "path"),
    "dir": ("files", "path"),
    "folder": ("files", "path"),
    "image_dir": ("files", "images"),
    "image_folder": ("files", "images"),
    "images": ("files",),
    "filename": ("image", "path"),
    "file_name": ("image", "path"),
    "caption": ("captions", "text"),
    "target": ("label",),
    "class": ("label", "classes"),
    "names": ("classes",),
    "charset": ("encoding",),
}


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """A recipe's mapping {format: ..., ...}, its keys checked: the format's own, and those that every format takes."""

    format: Format
    subset: SubsetConfig


def parse_source(spec: Mapping[str, Any], where: str) -> SourceSpec:
    """Check the keys of a data set, without looking at files.

    Raises:
        UserError: unknown format or key, wrong value; one line that begins with `where`.
    """
    options = dict(spec)
    name = options.pop("format", None)
    if name is None:
        raise UserError(f"{where}: key 'format' is missing; choose one of {', '.join(sorted(FORMATS))}")
    if name not in FORMATS:
        raise UserError(f"{where}: unknown format {name!r}; {nearest(name, FORMATS)}")
    own, common = ([field.name for field in fields(cls)] for cls in (FORMATS[name], SubsetConfig))
    if unknown := next((key for key in options if key not in (*own, *common)), None):
        raise UserError(f"{where}: unknown key {unknown!r}; {nearest(unknown, (*own, *common), _OTHER_NAMES)}")
    return SourceSpec(
        format=strict.parse(FORMATS[name], {key: options[key] for key in own if key in options}, where),
        subset=strict.parse(SubsetConfig, {key: options[key] for key in common if key in options}, where),
    )


def open_source(spec: Mapping[str, Any], where: str, base: Path) -> Source:
    """Open the data set that a recipe's mapping {format: ..., ...} names; relative paths start at `base`.

    Raises:
        UserError: unknown format or key, or data that are not there; one line that begins with `where`.
    """
    parsed = parse_source(spec, where)
    return shared(parsed.subset.of(parsed.format.open(Path(base), where), Path(base), where))


def class_names(source: Source) -> tuple[str, ...] | None:
    """What each class is called, for choosing other texts for it: the name in the files, or else its first text.

    An accent and its letter are one character here, however the files spell them.
    """
    names = source.class_names if isinstance(source, Named) else None
    if names is None and source.classes is not None:
        names = tuple(texts[0] for texts in source.classes)
    return None if names is None else tuple(map(composed, names))


def notes_of(source: Source) -> tuple[str, ...]:
    """What was left out, cut or merged when a source was opened: lines that begin with the place, for people."""
    notes: tuple[str, ...] = getattr(source, "notes", ())
    return notes


def has_masks(source: Source) -> bool | None:
    """Whether any thing in a picture has an outline; None: that is not known without reading the samples."""
    some: bool | None = getattr(source, "has_masks", None)
    return some


def fault_of(source: Source) -> str | None:
    """Why the things in a picture cannot be used, where that is known without reading the samples."""
    fault: str | None = getattr(source, "fault", None)
    return fault


def labels_there(source: Source) -> frozenset[int] | None:
    """The classes that some sample has, by index, where they are known without reading the samples; None: they are
    not."""
    labels_of: Callable[[np.ndarray], frozenset[int] | None] | None = getattr(source, "labels_of", None)
    return None if labels_of is None else labels_of(np.arange(len(source)))


def thing_counts(source: Source) -> np.ndarray | None:
    """How many single things each picture has, (I,) int64, where that is known without reading; None: it is not."""
    counts_of: Callable[[np.ndarray], np.ndarray | None] | None = getattr(source, "counts_of", None)
    return None if counts_of is None else counts_of(np.arange(len(source)))


def classes_of(source: Source, where: str) -> tuple[tuple[str, ...], ...]:
    """Texts per class of a source that must have labels.

    Raises:
        UserError: it has none.
    """
    if source.classes is None:
        raise UserError(
            f"{where}: these data have no classes; a format with columns needs key 'label', a webdataset key 'classes'"
            " (names in label order, or a file such as classes.txt), a folder has them by itself"
        )
    return source.classes
