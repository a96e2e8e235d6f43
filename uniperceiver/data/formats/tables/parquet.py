"""Parquet files, read row group by row group when a sample asks for it. Needs the package pyarrow."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uniperceiver.data.formats.files import others_beside
from uniperceiver.data.formats.patterns import list_files
from uniperceiver.data.formats.tables.arrow import (
    class_of,
    has_path,
    is_integer,
    is_large,
    is_text,
    listed_classes,
    optional_package,
    rows_of,
    value_of,
)
from uniperceiver.data.formats.tables.columns import Columns, ColumnsData
from uniperceiver.data.formats.tables.rows import ConcatenatedRows, check_columns, open_all
from uniperceiver.errors import BrokenSample, UserError, listed, refuse_pointer
from uniperceiver.strict import record

_KEPT_BYTES = 256 << 20  # row groups that a process keeps decoded


@record
class ParquetSource(Columns):
    """A sample per row. Pictures and clips are paths, bytes, or mappings {bytes, path} as Hugging Face writes them."""

    path: str | tuple[str, ...]
    """A file, a folder of .parquet files, a pattern such as train-{00000..00011}.parquet or train-*.parquet, or a
    list of these."""

    def open(self, base: Path, where: str) -> ColumnsData:
        """Read the footers, and the labels."""
        optional_package("pyarrow.parquet", "parquet", where)
        columns, files = self.named_columns(where), list_files(base, self.path, ".parquet", where)
        media = frozenset(column.says for column in self.media_columns(where) if not column.parts)
        memory = Memory(limit=_KEPT_BYTES)
        rows = open_all(files, lambda file, name: _open(file, name, columns, media, memory, where))
        if isinstance(rows, ConcatenatedRows) and isinstance(self.label, str) and self.classes is None:
            _refuse_numbers_beside_names(rows.files, self.label, where)
        return self.samples(rows, files[0].parent, base, where, others_beside(base, self.path, ".parquet"))


class Memory:
    """The row groups that were decoded last. A copy, as another process gets it, begins empty."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._tables: OrderedDict[tuple[Path, int], Any] = OrderedDict()

    def get(self, key: tuple[Path, int], decode: Callable[[], Any]) -> Any:
        """The table of that row group; the oldest are forgotten when all together hold more bytes than the limit."""
        if key not in self._tables:
            self._tables[key] = decode()
        self._tables.move_to_end(key)
        while len(self._tables) > 1 and sum(table.nbytes for table in self._tables.values()) > self.limit:
            self._tables.popitem(last=False)
        return self._tables[key]

    def __reduce__(self) -> tuple[type["Memory"], tuple[int]]:
        return Memory, (self.limit,)


@dataclass(frozen=True, kw_only=True)
class ParquetRows:
    """The opened file. No handle is kept: it is opened anew for a row group, with the footer as it was read first."""

    path: Path
    short: str  # its name in messages
    footer: Any  # pyarrow's FileMetaData
    stop_G: np.ndarray  # int64, end of each row group
    columns: tuple[str, ...]  # those that are read
    classes: dict[str, tuple[str, ...]]  # that the file lists, by column
    text_columns: frozenset[str]
    integer_columns: frozenset[str]
    media: frozenset[str]  # columns of pictures and clips
    large_columns: frozenset[str]  # those that hold bytes
    path_columns: frozenset[str]  # those that are mappings with a path
    memory: Memory

    def __len__(self) -> int:
        return int(self.stop_G[-1])

    def name(self, index: int) -> str:
        """File and row, from 0."""
        return f"{self.short}:{index}"

    def read(self, index: int) -> Mapping[str, Any]:
        """The values of the columns."""
        group = int(np.searchsorted(self.stop_G, index, side="right"))
        try:
            table = self.memory.get((self.path, group), lambda: self._decode(group, self.columns))
        except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
            raise BrokenSample(self.name(index), f"{self.path}: row group {group} cannot be read ({error})") from None
        row = index - (int(self.stop_G[group - 1]) if group else 0)
        return {name: class_of(value_of(table.column(name)[row]), self.classes.get(name)) for name in self.columns}

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[Any, ...] | None]:
        """The values of some columns, without decoding bytes."""
        small = [
            f"{name}.path" if name in self.path_columns else name for name in columns if name not in self.large_columns
        ]
        for group, size in enumerate(np.diff(self.stop_G, prepend=0).tolist()):
            try:
                table = self._decode(group, small) if small else None
            except (OSError, ValueError):
                yield from [None] * size
                continue
            yield from (
                [(None,) * len(columns)] * size if table is None else rows_of(table, columns, self.classes, self.media)
            )

    def holds_paths(self, column: str) -> bool:
        """Whether the column has texts."""
        return column in self.text_columns

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """The classes that the file lists."""
        return self.classes.get(column)

    def _decode(self, group: int, columns: Sequence[str]) -> Any:
        from pyarrow.parquet import ParquetFile

        # Threads of pyarrow would not survive the fork that makes a loader process.
        with ParquetFile(self.path, metadata=self.footer, pre_buffer=False) as file:
            return file.read_row_group(group, columns=list(columns), use_threads=False)


def _refuse_numbers_beside_names(files: Sequence[Any], label: str, where: str) -> None:
    """Numbers in one file and names of classes in another would be classes of their own: what 0 means is not said.

    Raises:
        UserError: one file lists the classes of the column, another has numbers and lists none.
    """
    listing = next((file for file in files if file.class_names(label)), None)
    other = next((file for file in files if label in file.integer_columns and not file.class_names(label)), None)
    if listing is not None and other is not None:
        raise UserError(
            f"{where}: {listing.short} lists the classes of column {label!r}, {other.short} has numbers and none; "
            f"say what the numbers mean with `classes`, as {listing.short} does: "
            f"[{listed(listing.class_names(label) or (), 4)}]"
        )


def _open(
    path: Path, short: str, columns: tuple[str, ...], media: frozenset[str], memory: Memory, where: str
) -> ParquetRows:
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            footer, schema = file.metadata, file.schema_arrow
    except (OSError, ValueError) as error:
        refuse_pointer(path, f"{where}: ")
        reason = " ".join(str(error).split())
        raise UserError(f"{where}: {path}: not a Parquet file ({reason}); is it complete?") from None
    check_columns(columns, schema.names, path, where)
    sizes = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
    if not sum(sizes):
        raise UserError(f"{where}: {path}: no rows; is it complete?")
    types = {name: schema.field(name).type for name in columns}
    return ParquetRows(
        path=path,
        short=short,
        footer=footer,
        stop_G=np.cumsum(sizes, dtype=np.int64),
        columns=columns,
        classes=listed_classes(schema.metadata),
        text_columns=frozenset(name for name, type_ in types.items() if is_text(type_)),
        integer_columns=frozenset(name for name, type_ in types.items() if is_integer(type_)),
        media=media,
        large_columns=frozenset(name for name in media if is_large(types[name])),
        path_columns=frozenset(name for name in media if has_path(types[name])),
        memory=memory,
    )
