"""JSON Lines: one object per line, whose keys are the columns.

Shape suffixes: J rows.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from uniperceiver.data.formats.files import list_files, read_bytes
from uniperceiver.data.formats.line_index import index_lines
from uniperceiver.data.formats.tables.columns import Columns, ColumnsData
from uniperceiver.data.formats.tables.rows import check_columns, open_all
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.strict import record

_LOOKED_AT = 100  # objects that show which keys there are: some may leave out what they do not have


@record
class JsonlSource(Columns):
    """A sample per line."""

    path: str | tuple[str, ...]
    """A file, a folder of .jsonl files, a pattern such as part-{00..12}.jsonl or part-*.jsonl, or a list of these."""

    def open(self, base: Path, where: str) -> ColumnsData:
        """Find the lines and read their labels."""
        columns, files = self.named_columns(where), list_files(base, self.path, ".jsonl", where)
        rows = open_all(files, lambda file, name: _open(file, name, columns, where))
        return self.samples(rows, files[0].parent, base, where)


@dataclass(frozen=True, kw_only=True)
class JsonlRows:
    """The opened file."""

    path: Path
    short: str  # its name in messages
    line_J2: np.ndarray  # (J, 2) int64, first byte and byte after the last
    number_J: np.ndarray  # int64, line in the file, from 1
    columns: tuple[str, ...]  # those that are read

    def __len__(self) -> int:
        return len(self.number_J)

    def name(self, index: int) -> str:
        """File and line."""
        return f"{self.short}:{self.number_J[index]}"

    def read(self, index: int) -> Mapping[str, Any]:
        """The values of the columns; None where the object lacks the key."""
        start, stop = self.line_J2[index].tolist()
        name = self.name(index)
        values = _parse(read_bytes(self.path, name, start, stop - start), name)
        return {column: values.get(column) for column in self.columns}

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[Any, ...] | None]:
        """The values of some columns."""
        for values in self.objects():
            yield None if values is None else tuple(values.get(column) for column in columns)

    def objects(self) -> Iterator[dict[str, Any] | None]:
        """All objects, None where a line is broken."""
        with open(self.path, "rb") as file:
            for start, stop in self.line_J2.tolist():
                file.seek(start)
                try:
                    yield _parse(file.read(stop - start), self.short)
                except BrokenSample:
                    yield None

    def holds_paths(self, column: str) -> bool:
        """Always: there is no place for bytes."""
        return True

    def class_names(self, column: str) -> None:
        """None: such a file lists no classes."""


def _open(path: Path, short: str, columns: tuple[str, ...], where: str) -> JsonlRows:
    lines = index_lines(path, where)
    if not len(lines.start_L):
        raise UserError(f"{where}: {path}: no lines; is it complete?")
    rows = JsonlRows(
        path=path,
        short=short,
        line_J2=np.stack([lines.start_L, lines.stop_L], axis=1),
        number_J=lines.number_L,
        columns=columns,
    )
    first = [values for values in islice(rows.objects(), _LOOKED_AT) if values is not None]
    if not first:
        raise UserError(f"{where}: {path}: no object in the first lines; expected JSON Lines: {{...}} on each line")
    check_columns(columns, list(dict.fromkeys(key for values in first for key in values)), path, where)
    return rows


def _parse(line: bytes, name: str) -> dict[str, Any]:
    try:
        values = json.loads(line.decode("utf-8"), object_pairs_hook=_without_repeats)
    except UnicodeDecodeError as error:
        raise BrokenSample(name, f"not valid UTF-8 (byte {error.start})") from None
    except (ValueError, RecursionError) as error:
        raise BrokenSample(name, f"not valid JSON ({error})") from None
    if not isinstance(values, dict):
        raise BrokenSample(name, f"not a JSON object but a {type(values).__name__}")
    return values


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} stands there twice")
    return values
