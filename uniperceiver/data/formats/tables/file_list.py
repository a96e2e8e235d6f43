"""A list of files: a text file with a path on each line, or a path, a tab and a class."""

from dataclasses import replace
from pathlib import Path

from uniperceiver.data.formats.files import existing_file, suffix_of
from uniperceiver.data.formats.tables.columns import Columns, ColumnsData
from uniperceiver.data.formats.tables.delimited import DelimitedRows, Dialect, open_delimited
from uniperceiver.data.formats.tables.media_column import MediaColumn
from uniperceiver.data.formats.text_file import UTF8
from uniperceiver.errors import UserError
from uniperceiver.modalities import MODALITIES, modality_of_file
from uniperceiver.strict import record

_PATH, _CLASS = "0", "1"  # the columns of a table without header


@record
class FileListSource:
    """A sample per line: a clip or a sound where the names end as those of such files do, else an image."""

    path: str
    """The list."""
    files: str | None = None
    """The folder that relative paths start at; None: that of the list."""
    file: str = _PATH
    """How a path is made of a line's first column: "{0}.jpg" where the list has names without ending."""
    encoding: str = UTF8
    """Of the list, such as cp1252 or utf-16."""
    classes: str | tuple[str, ...] | None = None
    """Class names in label order, or a file that lists them; None: the classes in the list, sorted."""

    def open(self, base: Path, where: str) -> ColumnsData:
        """Read the list, which is a table without header."""
        path = existing_file(base, self.path, where)
        dialect = Dialect(delimiter="\t", quotes=False, header=False, encoding=self.encoding)
        rows = open_delimited(path, path.name, dialect, (), where)
        if len(rows.columns) > 2:
            raise UserError(f"{where}: {path}: {len(rows.columns)} columns; a list has paths, or path, tab, class")
        labelled = len(rows.columns) == 2
        if self.classes is not None and not labelled:
            raise UserError(f"{where}: {path}: no classes in the list; write path, tab, class on each line")
        modality = _modality(rows, MediaColumn.of("image", "file", self.file, where), path, where)
        keys = _ListColumns(
            image=self.file if modality == "image" else None,
            clip=self.file if modality == "video" else None,
            audio=self.file if modality == "audio" else None,
            label=_CLASS if labelled else None,
            classes=self.classes,
            files=self.files,
        )
        return keys.samples(rows, path.parent, base, where)


@record
class _ListColumns(Columns):
    """Columns whose paths are called by the key of a list."""

    def media_columns(self, where: str) -> tuple[MediaColumn, ...]:
        """Where the files lie."""
        return tuple(replace(column, key="file") for column in Columns.media_columns(self, where))


def _modality(rows: DelimitedRows, column: MediaColumn, path: Path, where: str) -> str:
    """What the files are, which must be one thing; what has no known suffix is an image."""
    if other := next((name for name in column.columns if name not in rows.columns), None):
        raise UserError(f"{where}: file: a list has no column {other!r}; its first is 0, as in '{{0}}.jpg'")
    examples: dict[str, str] = {}
    for cells in rows.scan(column.columns):
        if cells is not None and (name := column.path(dict(zip(column.columns, cells, strict=True)))) is not None:
            examples.setdefault(modality_of_file(f".{suffix_of(name)}") or "image", name)
    kinds = [modality for modality in MODALITIES if modality in examples]
    if len(kinds) > 1:
        nouns = " and ".join(f"{MODALITIES[modality].noun}s" for modality in kinds)
        names = " and ".join(examples[modality] for modality in kinds)
        raise UserError(f"{where}: {path} mixes {nouns}, such as {names}; make a list of each")
    return kinds[0] if kinds else "image"
