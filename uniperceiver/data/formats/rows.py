"""ROWS: what the formats with columns have in common, whatever kind of file the rows lie in."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from uniperceiver.data.formats.files import short_names
from uniperceiver.errors import UserError, nearest


class Rows(Protocol):
    """Rows of which some columns are wanted: an index in memory, rows on demand. It can be pickled and forked."""

    def __len__(self) -> int: ...

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
class Several:
    """The rows of several files, one after the other."""

    parts: tuple[Rows, ...]
    stop_P: np.ndarray  # int64, end of each part among all rows

    def __len__(self) -> int:
        return int(self.stop_P[-1])

    def name(self, index: int) -> str:
        """Where the row stands."""
        part, row = self._place(index)
        return part.name(row)

    def read(self, index: int) -> Mapping[str, Any]:
        """The row's values by column."""
        part, row = self._place(index)
        return part.read(row)

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[Any, ...] | None]:
        """The values of some columns."""
        for part in self.parts:
            yield from part.scan(columns)

    def holds_paths(self, column: str) -> bool:
        """Whether pictures in that column are paths."""
        return all(part.holds_paths(column) for part in self.parts)

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """The classes that the files list, if all list the same."""
        names = {part.class_names(column) for part in self.parts}
        return names.pop() if len(names) == 1 else None

    def _place(self, index: int) -> tuple[Rows, int]:
        part = int(np.searchsorted(self.stop_P, index, side="right"))
        return self.parts[part], index - (int(self.stop_P[part - 1]) if part else 0)


def open_all(files: Sequence[Path], open_one: Callable[[Path, str], Rows]) -> Rows:
    """The rows of all files; `open_one` gets a file and its short name."""
    parts = tuple(open_one(file, name) for file, name in zip(files, short_names(files), strict=True))
    if len(parts) == 1:
        return parts[0]
    return Several(parts=parts, stop_P=np.cumsum([len(part) for part in parts], dtype=np.int64))


def check_columns(wanted: Sequence[str], there: Sequence[str], what: object, where: str, hint: str = "") -> None:
    """Every wanted column must be there, once.

    Raises:
        UserError: one is not; the nearest is offered.
    """
    for name in wanted:
        if name not in there:
            raise UserError(f"{where}: {what}: no column {name!r}; {hint}{nearest(name, there)}")
        if list(there).count(name) > 1:
            raise UserError(f"{where}: {what}: two columns {name!r}; rename one of them")
