"""NONE OF THE FILES IS THERE: where they are instead, as far as can be seen from here."""

import os
import re
from pathlib import Path

from uniperceiver.data.formats.files import listed_suffixes
from uniperceiver.data.formats.tables.media_column import MediaColumn
from uniperceiver.errors import shortened

_ADDRESS = re.compile(r"\b[a-z][a-z0-9+]+:/")  # https://..., which a path writes with one slash
_LOOKED_INTO = 50  # folders
_LONGEST_NAME = 255  # bytes of a file or folder, on nearly every file system


def why_no_file(missing: Path, media: MediaColumn | None, folder: Path) -> str:
    """The end of a message: what is wrong with the paths of a table, and what to change.

    Args:
        missing: the first file that is not there.
        folder: that relative paths start at.
    """
    assert media is not None
    if _ADDRESS.search(missing.as_posix()):
        return f"column {media.says!r} holds addresses, not files; download them first and name the files"
    if max(map(len, map(os.fsencode, missing.parts))) > _LONGEST_NAME:
        return f"column {media.says!r} holds texts, not files: {shortened(missing.name, 80)!r}; name another column"
    nowhere = f"column {media.says!r}: none of the files is there, not even {missing}"
    if missing.name.endswith('"'):
        return f'{nowhere}; its cells stand in quotation marks: use format: csv (for tabs with delimiter: "\\t")'
    if "\\" in missing.name:
        return f"{nowhere}; its folders are parted by \\ as on Windows: write / instead"
    if (called := _by_another_case(missing)) is not None:
        return f"{nowhere}; it is called {called}: capitals matter, so write the names as the files have them"
    endings = [f".{suffix}" for suffix in listed_suffixes()]
    for ending in (*endings, *map(str.upper, endings)):
        if os.path.isfile(f"{missing}{ending}"):
            template = media.says if media.parts else f"{{{media.says}}}"
            return f"{nowhere}; their names end with {ending}: set {media.key}: '{template}{ending}'"
    if not missing.is_relative_to(folder):
        for start in range(2, len(missing.parts)):
            if folder.joinpath(*missing.parts[start:]).is_file():
                return f"{nowhere}; remove {Path(*missing.parts[:start])}/ from the column: here it is no folder"
    else:
        for other in (*_inside(folder), *list(folder.resolve().parents)[:3]):
            if (other / missing.relative_to(folder)).is_file():
                return f"{nowhere}; they are in another folder: set files: {other}"
        for inside in _inside(missing.parent):
            there = next((ending for ending in ("", *endings) if (inside / f"{missing.name}{ending}").is_file()), None)
            if there is not None:
                return (
                    f"{nowhere}, but {inside / missing.name}{there}; make the path of columns, such as {media.key}: "
                    f"'{{COLUMN}}/{{{media.columns[-1]}}}{there}'"
                )
    return f"{nowhere}; set key files to the folder that the paths start at, it is {folder} now"


def _by_another_case(missing: Path) -> str | None:
    """The file in the same folder whose name differs in capitals alone."""
    names = os.listdir(missing.parent) if missing.parent.is_dir() else []
    alike = [name for name in names if name.lower() == missing.name.lower() and name != missing.name]
    return alike[0] if alike else None


def _inside(folder: Path) -> list[Path]:
    """The folders in a folder, not all of very many."""
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()) if folder.is_dir() else []
    return [folder / name for name in names[:_LOOKED_INTO]]
