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

from uniperceiver.data.formats.files import others_beside
from uniperceiver.data.formats.line_index import index_lines
from uniperceiver.data.formats.patterns import list_files
from uniperceiver.data.formats.tables.columns import Columns, ColumnsData
from uniperceiver.data.formats.tables.rows import check_columns, open_all
from uniperceiver.data.formats.text_file import UTF8, TextFile, open_text
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.strict import record

_LOOKED_AT = 100  # objects that show which keys there are: some may leave out what they do not have


@record
class JsonlSource(Columns):
    """A sample per line."""

    path: str | tuple[str, ...]
    """A file, a folder of .jsonl files, a pattern such as part-{00..12}.jsonl or part-*.jsonl, or a list of these."""
    encoding: str = UTF8
    """Of the file, such as utf-16; another than UTF-8 is kept in memory as a whole."""

    def open(self, base: Path, where: str) -> ColumnsData:
        """Find the lines and read their labels."""
        columns, files = self.named_columns(where), list_files(base, self.path, ".jsonl", where)
        rows = open_all(files, lambda file, name: _open(file, name, columns, self.encoding, where))
        return self.samples(rows, files[0].parent, base, where, others_beside(base, self.path, ".jsonl"))


@dataclass(frozen=True, kw_only=True)
class JsonlRows:
    """The opened file."""

    text: TextFile
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
        values = parse_object(self.text.read(name, start, stop - start), name)
        return {column: lookup(values, column) for column in self.columns}

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[Any, ...] | None]:
        """The values of some columns."""
        for values in self.objects():
            yield None if values is None else tuple(lookup(values, column) for column in columns)

    def objects(self) -> Iterator[dict[str, Any] | None]:
        """All objects, None where a line is broken."""
        with self.text.open() as file:
            for start, stop in self.line_J2.tolist():
                file.seek(start)
                try:
                    yield parse_object(file.read(stop - start), self.short)
                except BrokenSample:
                    yield None

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of the file."""
        return self.text.notes

    def holds_paths(self, column: str) -> bool:
        """Always: there is no place for bytes."""
        return True

    def class_names(self, column: str) -> None:
        """None: such a file lists no classes."""


def _open(path: Path, short: str, columns: tuple[str, ...], encoding: str, where: str) -> JsonlRows:
    text = open_text(path, encoding, where)
    lines = index_lines(text, where)
    if not len(lines.start_L):
        raise UserError(f"{where}: {path}: no lines; is it complete?")
    rows = JsonlRows(
        text=text,
        short=short,
        line_J2=np.stack([lines.start_L, lines.stop_L], axis=1),
        number_J=lines.number_L,
        columns=columns,
    )
    first = [values for values in islice(rows.objects(), _LOOKED_AT) if values is not None]
    head, tail = (
        text.read(path.name, int(lines.start_L[at]), int(lines.stop_L[at] - lines.start_L[at])).strip()
        for at in (0, -1)
    )
    is_list = head.startswith(b"[") and tail.endswith(b"]") and not (head.endswith(b"]") and first)
    if not first or is_list:
        mend = "this is one JSON document: use format: json" if head[:1] in (b"[", b"{") else "is this the file?"
        if head.startswith(b"{") and head.endswith((b",", b";")):
            mend = f"its lines end with {head[-1:].decode()}: remove it"
        raise UserError(f"{where}: {path}: no JSON Lines, which have an object {{...}} on each line; {mend}")
    check_columns(columns, present_columns(first, columns), path, where)
    return rows


def parse_object(line: bytes, name: str) -> dict[str, Any]:
    """A JSON object, in which no key stands twice.

    Raises:
        BrokenSample: it is none.
    """
    try:
        values = json.loads(line.decode("utf-8"), object_pairs_hook=_without_repeats)
    except UnicodeDecodeError as error:
        raise BrokenSample(name, f"not valid UTF-8 (byte {error.start})") from None
    except (ValueError, RecursionError) as error:
        raise BrokenSample(name, f"not valid JSON ({error})") from None
    if not isinstance(values, dict):
        raise BrokenSample(name, f"not a JSON object but a {type(values).__name__}")
    return values


def lookup(value: Any, key: str) -> Any:
    """What an object has under a key; None: nothing.

    A dotted key goes into objects inside it and, by number, into lists; by name, a list gives what each of its objects
    has: `sentences.raw`, `annotations.0.value`.
    """
    if isinstance(value, dict) and key in value:
        return value[key]
    first, _, rest = key.partition(".")
    if isinstance(value, list):
        if not first.isdecimal():
            return [lookup(item, key) for item in value]
        inner = value[int(first)] if int(first) < len(value) else None
        return lookup(inner, rest) if rest else inner
    if not isinstance(value, dict) or not rest:
        return None
    return lookup(value.get(first), rest)


def present_columns(objects: Sequence[Mapping[str, Any]], named: Sequence[str]) -> list[str]:
    """The keys of some objects, and those of the named dotted keys under which one of them has something."""
    keys = dict.fromkeys(key for values in objects for key in values)
    dotted = [key for key in named if key not in keys and any(_has(lookup(values, key)) for values in objects)]
    return [*keys, *dotted]


def _has(value: Any) -> bool:
    return any(map(_has, value)) if isinstance(value, list) else value is not None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} stands there twice")
    return values
