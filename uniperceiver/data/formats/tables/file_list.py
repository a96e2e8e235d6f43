"""A list of files: a text file with a path on each line, or a path, a tab and a class."""

from pathlib import Path

from uniperceiver.data.formats.files import existing_file, suffix_of
from uniperceiver.data.formats.tables.columns import Columns, ColumnsData
from uniperceiver.data.formats.tables.delimited import DelimitedRows, Dialect, open_delimited
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
    classes: str | tuple[str, ...] | None = None
    """Class names in label order, or a file with one per line; None: the classes in the list, sorted."""

    def open(self, base: Path, where: str) -> ColumnsData:
        """Read the list, which is a table without header."""
        path = existing_file(base, self.path, where)
        dialect = Dialect(delimiter="\t", quotes=False, header=False)
        rows = open_delimited(path, path.name, dialect, (), where)
        if len(rows.columns) > 2:
            raise UserError(f"{where}: {path}: {len(rows.columns)} columns; a list has paths, or path, tab, class")
        labelled = len(rows.columns) == 2
        if self.classes is not None and not labelled:
            raise UserError(f"{where}: {path}: no classes in the list; write path, tab, class on each line")
        clips = _are_clips(rows, where)
        keys = Columns(
            image=None if clips else _PATH,
            clip=_PATH if clips else None,
            label=_CLASS if labelled else None,
            classes=self.classes,
            files=self.files,
        )
        return keys.samples(rows, path.parent, base, where)


def _are_clips(rows: DelimitedRows, where: str) -> bool:
    names = (cells[0] for cells in rows.scan([_PATH]) if cells is not None)
    kinds = {modality_of_file(f".{suffix_of(name)}") == "video" for name in names}
    if len(kinds) == 2:
        raise UserError(f"{where}: {rows.path} mixes images and clips; make a list of each")
    return kinds == {True}
