"""PATTERNS -> FILES: what the key `path` of a format names, which may be several files."""

import glob
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uniperceiver.data.formats.files import existing
from uniperceiver.errors import UserError, listed

_MOST_FILES = 1_000_000
_BRACES = re.compile(r"\{([^{}]*(?:,|\.\.)[^{}]*)\}")
_WILD = re.compile(r"[*?[]")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def list_files(base: Path, path: str | Sequence[str], suffix: str, where: str) -> tuple[Path, ...]:
    """The files that a file, a folder (its files with that suffix, sorted), a pattern (braces such as {00..12}, or
    *, ? and [...] for what is there, sorted) or a list of these name, each once.

    Raises:
        UserError: a name without a file, or a file that is named twice.
    """
    files: dict[Path, None] = {}
    for entry in [path] if isinstance(path, str) else path:
        there, rest = _begun(base, entry)
        patterns = expand_braces(rest, where)
        _check_series(base, there, rest, patterns, where)
        for pattern in patterns:
            for file in _matching_files(base / there, pattern, suffix, where):
                if file in files:
                    raise UserError(f"{where}: key 'path' names {file} twice; name each file once")
                files[file] = None
    if not files:
        raise UserError(f"{where}: key 'path' is an empty list; name at least one file")
    return tuple(files)


def _begun(base: Path, entry: str) -> tuple[Path, str]:
    """What an entry begins with that is there by that very name, such as a folder `[v1]`; and the pattern behind."""
    there, rest = Path(), list(Path(entry).expanduser().parts)
    while rest and os.path.lexists(base / there / rest[0]):
        there /= rest.pop(0)
    return there, os.path.join("", *rest)


def _check_series(base: Path, there: Path, rest: str, patterns: Sequence[str], where: str) -> None:
    """Refuse a pattern with braces of whose files some are there and some are not."""
    whole = [there / pattern for pattern in patterns if not _WILD.search(pattern)]
    absent = [str(path) for path in whole if not (base / path).exists()]
    if 0 < len(absent) < len(patterns):
        raise UserError(
            f"{where}: {there / rest} names {len(patterns):,} files, of which {len(absent):,} are not there: "
            f"{listed(absent, 3)}; to read those that are, write path: '{there / _BRACES.sub('*', rest)}'"
        )


def _matching_files(folder: Path, path: str, suffix: str, where: str) -> list[Path]:
    if _WILD.search(path):
        matches = sorted(glob.glob(path, root_dir=folder, recursive=True))
        files = [folder / match for match in matches if (folder / match).is_file()]
        if not files:
            raise UserError(f"{where}: {folder / path}: no file is named like this; check the pattern")
        return files
    full = existing(folder, path, where)
    inside = [file for file in sorted(full.iterdir()) if file.name[0] != "."] if full.is_dir() else []
    taken = [file for file in inside if file.name.lower().endswith(suffix)] if full.is_dir() else [full]
    files = [file for file in taken if file.is_file()]
    if not files:
        raise UserError(f"{where}: {full}: no {suffix} file in this folder; give the folder that holds them")
    return files


def expand_braces(pattern: str, where: str = "path") -> list[str]:
    """`a-{08..10}.tar` is a-08.tar, a-09.tar, a-10.tar; `{a,b}.tar` is a.tar, b.tar; several braces multiply."""
    pieces = _BRACES.split(pattern)  # text, inside of braces, text, ...
    choices = [[piece] if number % 2 == 0 else _brace(piece) for number, piece in enumerate(pieces)]
    if np.prod([float(len(choice)) for choice in choices]) > _MOST_FILES:
        raise UserError(f"{where}: {pattern} names more than {_MOST_FILES} files; check the numbers in braces")
    return ["".join(parts) for parts in itertools.product(*choices)]


def _brace(inside: str) -> list[str]:
    match = _RANGE.fullmatch(inside)
    if match is None:
        return inside.split(",")
    first, last = match.groups()
    padded = any(end.startswith("0") and len(end) > 1 for end in (first, last))
    width = max(len(first), len(last)) if padded else 0
    step = 1 if int(first) <= int(last) else -1
    numbers = range(int(first), int(last) + step, step)[: _MOST_FILES + 1]  # one too many is refused by the caller
    return [f"{number:0{width}d}" for number in numbers]
