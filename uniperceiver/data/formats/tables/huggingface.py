"""Data sets of Hugging Face's `datasets`: saved to disk, or a folder in a form that it knows, or from the hub.

Its files lie in memory maps that all processes share. Pictures and clips are taken as they are encoded.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniperceiver.data.formats.files import existing_folder
from uniperceiver.data.formats.tables.arrow import class_of, is_text, optional_package, rows_of
from uniperceiver.data.formats.tables.columns import Columns, ColumnsData
from uniperceiver.data.formats.tables.rows import check_columns
from uniperceiver.errors import BrokenSample, UserError, nearest
from uniperceiver.strict import record

_SAVED = ("dataset_dict.json", "state.json")  # one of them is in a folder that save_to_disk wrote
_SCANNED = 1000  # rows at a time


@record
class HuggingfaceSource(Columns):
    """A sample per row; a column of type ClassLabel brings its class names along."""

    path: str | None = None
    """A folder: what `save_to_disk` wrote, or one with files that `load_dataset` can read."""
    hub: str | None = None
    """Instead of a path: OWNER/NAME on the hub, which is downloaded once."""
    revision: str | None = None
    """Of a data set on the hub: branch, tag or commit."""
    config: str | None = None
    """Which configuration (subset) of the data set."""
    split: str | None = None
    """Which split, such as train; needed where there are several."""

    def open(self, base: Path, where: str) -> ColumnsData:
        """Open the memory maps, which are made first where the folder holds other files; read the labels."""
        datasets = optional_package("datasets", "huggingface", where)
        columns = self.named_columns(where)
        if (self.path is None) == (self.hub is None):
            raise UserError(f"{where}: give one of the keys path (a folder) and hub (OWNER/NAME)")
        folder = base if self.path is None else existing_folder(base, self.path, where)
        what = self.hub or str(folder)
        dataset = self._split(self._load(datasets, folder, what, where), what, where)
        if not len(dataset):
            raise UserError(f"{where}: {what}: no rows; is it complete?")
        check_columns(columns, dataset.column_names, what, where)
        dataset = dataset.with_format(None).select_columns(list(columns))
        for name, feature in list(dataset.features.items()):
            if getattr(feature, "decode", False):
                dataset = dataset.cast_column(name, type(feature)(decode=False))
        name = (self.hub or folder.resolve().name) + ("" if self.split is None else f"/{self.split}")
        media = frozenset(column.says for column in self.media_columns(where) if not column.parts)
        return self.samples(HuggingfaceRows.of(dataset, name, media), folder, base, where)

    def _load(self, datasets: Any, folder: Path, what: str, where: str) -> Any:
        if self.path is not None and self.revision is not None:
            raise UserError(f"{where}: key 'revision' is for data sets on the hub; leave it out")
        if self.path is not None and any((folder / name).is_file() for name in _SAVED):
            if self.config is not None:
                raise UserError(f"{where}: {what} was saved to disk, without configurations; leave key config out")
            load, options = datasets.load_from_disk, {}
        else:
            load, options = datasets.load_dataset, {"name": self.config, "revision": self.revision}
        try:
            return load(str(folder) if self.path is not None else self.hub, **options)
        except Exception as error:  # whatever the library's many readers raise on what they find
            reason = " ".join(str(error.__cause__ or error).split())
            raise UserError(f"{where}: {what}: cannot be opened ({type(error).__name__}: {reason})") from None

    def _split(self, opened: Any, what: str, where: str) -> Any:
        """The split that the recipe names of a mapping of splits, or the data set that has none."""
        if not isinstance(opened, dict):
            own = None if opened.split is None else str(opened.split)
            if self.split not in (None, own):
                state = "has no splits" if own is None else f"is the split {own!r}"
                raise UserError(f"{where}: split {self.split!r}: {what} {state}; leave the key out")
            return opened
        if self.split is None and len(opened) == 1:
            return next(iter(opened.values()))
        if self.split is None:
            raise UserError(f"{where}: {what} has the splits {', '.join(opened)}; set key split to one of them")
        if self.split not in opened:
            raise UserError(f"{where}: {what} has no split {self.split!r}; {nearest(self.split, opened)}")
        return opened[self.split]


@dataclass(frozen=True, kw_only=True)
class HuggingfaceRows:
    """The opened data set."""

    dataset: Any  # datasets.Dataset of the wanted columns, nothing decoded
    short: str  # its name in messages
    classes: dict[str, tuple[str, ...]]  # by column
    text_columns: frozenset[str]
    media: frozenset[str]  # columns of pictures and clips

    @staticmethod
    def of(dataset: Any, short: str, media: frozenset[str]) -> "HuggingfaceRows":
        """What its features say of the columns."""
        features = dataset.features
        names = {name: _listed_names(feature) for name, feature in features.items()}
        return HuggingfaceRows(
            dataset=dataset,
            short=short,
            classes={name: tuple(listed) for name, listed in names.items() if listed is not None},
            text_columns=frozenset(field.name for field in features.arrow_schema if is_text(field.type)),
            media=media,
        )

    def __len__(self) -> int:
        return len(self.dataset)

    def name(self, index: int) -> str:
        """Data set and row, from 0."""
        return f"{self.short}:{index}"

    def read(self, index: int) -> Mapping[str, Any]:
        """The values of a row."""
        try:
            row = self.dataset[index]
        except (OSError, ValueError) as error:
            raise BrokenSample(self.name(index), f"cannot be read ({error})") from None
        return {name: class_of(value, self.classes.get(name)) for name, value in row.items()}

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[Any, ...] | None]:
        """The values of some columns; bytes stay in the memory maps."""
        tables = self.dataset.select_columns(list(columns)).with_format("arrow")
        for table in tables.iter(batch_size=_SCANNED):
            yield from rows_of(table, columns, self.classes, self.media)

    def holds_paths(self, column: str) -> bool:
        """Whether the column has texts."""
        return column in self.text_columns

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """The classes that the feature lists."""
        return self.classes.get(column)


def _listed_names(feature: Any) -> Sequence[str] | None:
    """The class names of a column, of what its lists hold, or of the first part of its mappings that has some."""
    inner = getattr(feature, "feature", feature)
    if getattr(inner, "_type", "") == "ClassLabel":
        names: Sequence[str] = inner.names
        return names
    parts = inner.values() if isinstance(inner, dict) else () if inner is feature else (inner,)
    return next((names for names in map(_listed_names, parts) if names is not None), None)
