"""NONE OF THE FILES IS THERE: where they are instead, as far as can be seen from here."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from uniperceiver.data.formats.files import listed_suffixes
from uniperceiver.data.formats.tables.media_column import MediaColumn

_ADDRESS = re.compile(r"\b[a-z][a-z0-9+]+:/")  # https://..., which a path writes with one slash
_LOOKED_INTO = 50  # folders


def why_no_file(missing: Path, media: MediaColumn | None, folder: Path) -> str:
    """The end of a message: what is wrong with the paths of a table, and what to change.

    Args:
        missing: the first file that is not there.
        folder: that relative paths start at.
    """
    assert media is not None
    if _ADDRESS.search(missing.as_posix()):
        return f"column {media.says!r} holds addresses, not files; download them first and name the files"
    nowhere = f"column {media.says!r}: none of the files is there, not even {missing}"
    if "\\" in missing.name:
        return f"{nowhere}; its folders are parted by \\ as on Windows: write / instead"
    endings = [f".{suffix}" for suffix in listed_suffixes()]
    for ending in (*endings, *map(str.upper, endings)):
        if os.path.isfile(f"{missing}{ending}"):
            template = media.says if media.parts else f"{{{media.says}}}"
            return f"{nowhere}; their names end with {ending}: set {media.key}: '{template}{ending}'"
    for other in _folders_near(folder):
        if not missing.is_relative_to(folder):
            break
        if (other / missing.relative_to(folder)).is_file():
            return f"{nowhere}; they are in another folder: set files: {other}"
    return f"{nowhere}; set key files to the folder that the paths start at, it is {folder} now"


def _folders_near(folder: Path) -> Iterator[Path]:
    """The folders in it, and those above."""
    inside = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()) if folder.is_dir() else []
    yield from (folder / name for name in inside[:_LOOKED_INTO])
    yield from list(folder.resolve().parents)[:3]
