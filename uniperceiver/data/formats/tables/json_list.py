"""JSON: one document with a list of objects, whose keys are the columns; dotted keys go into objects inside them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from uniperceiver.data.formats.files import Strings, others_beside, read_json
from uniperceiver.data.formats.patterns import list_files
from uniperceiver.data.formats.tables.columns import Columns, ColumnsData
from uniperceiver.data.formats.tables.jsonl import lookup, parse_object, present_columns
from uniperceiver.data.formats.tables.rows import check_columns, open_all
from uniperceiver.errors import BrokenSample, UserError, listed
from uniperceiver.strict import record

_VALUES = "*"
_LOOKED_AT = 100  # objects that show which keys there are


@record
class JsonSource(Columns):
    """A sample per object of a list, as annotation tools export them; columns may be dotted, such as sentences.raw."""

    path: str | tuple[str, ...]
    """A file, a folder of .json files, a pattern such as part-{00..12}.json or part-*.json, or a list of these."""
    items: str | None = None
    """Key of the list in the document, perhaps dotted, such as images; "*": the values of a document that is a mapping;
    None: the document is the list."""

    def open(self, base: Path, where: str) -> ColumnsData:
        """Read the documents, and the labels."""
        columns, files = self.named_columns(where), list_files(base, self.path, ".json", where)
        rows = open_all(files, lambda file, name: _open(file, name, self.items, columns, where))
        return self.samples(rows, files[0].parent, base, where, others_beside(base, self.path, ".json"))


@dataclass(frozen=True, kw_only=True)
class JsonRows:
    """The opened document, an object after the other as text."""

    objects: Strings
    short: str  # the file's name in messages
    columns: tuple[str, ...]  # those that are read

    def __len__(self) -> int:
        return len(self.objects)

    def name(self, index: int) -> str:
        """File and place in the list, from 0."""
        return f"{self.short}[{index}]"

    def read(self, index: int) -> Mapping[str, Any]:
        """The values of the columns; None where the object lacks the key."""
        values = parse_object(self.objects[index].encode("utf-8", "surrogatepass"), self.name(index))
        return {column: lookup(values, column) for column in self.columns}

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[Any, ...] | None]:
        """The values of some columns."""
        for index in range(len(self)):
            try:
                values = parse_object(self.objects[index].encode("utf-8", "surrogatepass"), "")
            except BrokenSample:
                yield None
                continue
            yield tuple(lookup(values, column) for column in columns)

    def holds_paths(self, column: str) -> bool:
        """Always: there is no place for bytes."""
        return True

    def class_names(self, column: str) -> None:
        """None: such a file lists no classes."""


def _open(path: Path, short: str, items: str | None, columns: tuple[str, ...], where: str) -> JsonRows:
    document = read_json(path, where)
    objects = document if items in (None, _VALUES) else lookup(document, items)
    entries = list(objects.values()) if items == _VALUES and isinstance(objects, dict) else objects
    if not isinstance(entries, list):
        keys = [key for key, value in document.items() if isinstance(value, list)] if isinstance(document, dict) else []
        mend = (
            f"set items: {keys[0]}"
            if len(keys) == 1
            else f"set key items to the key of one, of {listed(keys) or '(none)'}"
        )
        if isinstance(document, dict) and document and all(isinstance(value, dict) for value in document.values()):
            mend = f"set items: '{_VALUES}' to take its values"
        state = "is no list" if items is None else f"has no list under {items!r}"
        raise UserError(f"{where}: {path}: {state}; {mend}")
    first = [values for values in islice(entries, _LOOKED_AT) if isinstance(values, dict)]
    if not first:
        raise UserError(f"{where}: {path}: no object in the list; expected [{{...}}, {{...}}]")
    check_columns(columns, present_columns(first, columns), path, where)
    return JsonRows(objects=Strings.of(map(json.dumps, entries)), short=short, columns=columns)
