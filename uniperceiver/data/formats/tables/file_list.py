"""A list of files: a text file with a path on each line, or a path, a tab and a class."""

from dataclasses import replace
from pathlib import Path

from uniperceiver.data.formats.files import existing_file, suffix_of
from uniperceiver.data.formats.tables.columns import Columns, ColumnsData
from uniperceiver.data.formats.tables.delimited import DelimitedRows, Dialect, open_delimited
from uniperceiver.data.formats.tables.media_column import MediaColumn
from uniperceiver.data.formats.text_file import UTF8
from uniperceiver.errors import UserError
from uniperceiver.modalities import modality_of_file
from uniperceiver.strict import record

_PATH, _CLASS = "0", "1"  # the columns of a table without header


@record
class FileListSource:
    """A sample per line: a clip where the names end as those of clips do, else an image."""

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
        clips = _are_clips(rows, MediaColumn.of("file", self.file, where), path, where)
        keys = _ListColumns(
            image=None if clips else self.file,
            clip=self.file if clips else None,
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


def _are_clips(rows: DelimitedRows, column: MediaColumn, path: Path, where: str) -> bool:
    if other := next((name for name in column.columns if name not in rows.columns), None):
        raise UserError(f"{where}: file: a list has no column {other!r}; its first is 0, as in '{{0}}.jpg'")
    examples: dict[bool, str] = {}
    for cells in rows.scan(column.columns):
        if cells is not None and (name := column.path(dict(zip(column.columns, cells, strict=True)))) is not None:
            examples.setdefault(modality_of_file(f".{suffix_of(name)}") == "video", name)
    if len(examples) == 2:
        both = f"{examples[False]} and {examples[True]}"
        raise UserError(f"{where}: {path} mixes images and clips, such as {both}; make a list of each")
    return examples.keys() == {True}
