"""Some samples of another source: those that a list names."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from uniperceiver.data.formats.files import existing_file
from uniperceiver.data.formats.subset import Part
from uniperceiver.errors import UserError
from uniperceiver.strict import record

if TYPE_CHECKING:
    from uniperceiver.data.formats import Source


@record
class OnlyConfig:
    """A key of every format: which of its samples are taken, by name."""

    only: str | None = None
    """A text file with a name per line: a sample's id as logs show it, or its path as the data name it."""


@runtime_checkable
class Listing(Protocol):
    """A source that can tell the names of its samples without reading them."""

    def names(self) -> Iterator[tuple[str, ...]]:
        """What a list may call each sample, in order; its id first."""


def only_of(source: "Source", path: str | None, base: Path, where: str) -> "Source":
    """The samples that a list names, in the order of the source; all of them without a list.

    Raises:
        UserError: the list is empty, or names what is not there.
    """
    if path is None:
        return source
    where = f"{where}: only"
    file = existing_file(base, path, where)
    if not isinstance(source, Listing):
        raise UserError(f"{where}: the samples of this format have no names; leave the key out")
    line_of = _read(file, where)
    found: set[str] = set()
    taken = []
    example: tuple[str, ...] = ()
    for index, names in enumerate(source.names()):
        example = example or names
        if matching := line_of.keys() & set(names):
            taken.append(index)
            found |= matching
    if missing := next((name for name in line_of if name not in found), None):
        raise UserError(
            f"{where}: {file}:{line_of[missing]}: {missing!r} names no sample; "
            f"they are named like {' or '.join(map(repr, example))}"
        )
    return Part(whole=source, index_N=np.array(taken, dtype=np.int64))


def _read(file: Path, where: str) -> dict[str, int]:
    """Line by name; of a name that stands there twice, the last."""
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: {file}: cannot be read as UTF-8 text ({error})") from None
    names = {line.strip().removeprefix("./"): number for number, line in enumerate(lines, 1) if line.strip()}
    if not names:
        raise UserError(f"{where}: {file}: names no sample; write one name per line")
    return names
