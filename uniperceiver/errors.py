"""What goes wrong for a reason that a user can mend: one line that says what, where and how."""

import difflib
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

_MOST_OF_MESSAGE = 2000  # characters: a file can hold any name and any value, and a message is for a screen
_MOST_OF_REASON = 400
_MOST_NAMES = 20

POINTER = "a pointer of Git LFS, not the file itself; fetch that with git lfs pull"
_POINTER = b"version https://git-lfs.github.com/spec/"


class UserError(Exception):
    """Something the user can mend; the command line prints its one line and exits with code 2."""

    def __init__(self, text: object = "") -> None:
        super().__init__(shortened(str(text), _MOST_OF_MESSAGE))


class BrokenSample(Exception):
    """One sample that cannot be used: its name and the reason. Training leaves it out and counts it."""

    def __init__(self, sample: str, reason: str) -> None:
        super().__init__(sample, reason)  # both in `args`, so that it crosses process borders
        self.sample = _printable(shortened(sample, _MOST_OF_REASON))
        self.reason = _printable(shortened(" ".join(str(reason).split()), _MOST_OF_REASON))

    def __str__(self) -> str:
        return f"{self.sample}: {self.reason}"


def _printable(text: str) -> str:
    """Halves of characters, as file names and JSON may have them, become question marks: no log could write them."""
    return text.encode("utf-8", "replace").decode("utf-8")


def warn(text: str) -> None:
    """Show a line for people beside an answer, on the standard error stream."""
    try:
        from rich.console import Console
    except ImportError:  # where an exported model runs, there may be few packages
        sys.stderr.write(f"{text}\n")
        return
    Console(stderr=True).print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def shortened(text: str, most: int) -> str:
    """A text of at most `most` characters: of a longer one the beginning and the end."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 5]} ... {text[-tail:]}"


def listed(names: Iterable[object], most: int = _MOST_NAMES) -> str:
    """Names for a message: the first `most`, and how many there are if there are more."""
    texts = [shortened(str(name), 100) for name in names]
    rest = f", ... ({len(texts):,} in all)" if len(texts) > most else ""
    return ", ".join(islice(texts, most)) + rest


def kind_of_path(path: Path) -> str:
    """What is at a path that exists and is no file."""
    return "a folder" if path.is_dir() else "a pipe or a device"


def is_pointer(data: bytes) -> bool:
    """Whether the first bytes of a file are those that Git LFS leaves in its place until it is fetched."""
    return data.startswith(_POINTER)


def undecodable(data: bytes, reason: str) -> str:
    """Why bytes cannot be decoded: they are none, or those of a pointer, or else the reason that a decoder gives."""
    if not data:
        return "the file is empty"
    if is_pointer(data):
        return POINTER
    return f"{reason}; it looks like a web page" if data.lstrip()[:1] == b"<" else reason


def refuse_pointer(path: Path, where: str = "") -> None:
    """Refuse a pointer of Git LFS: as a damaged file it would be copied again, and be the same.

    Raises:
        UserError: the file is one.
    """
    with suppress(OSError), path.open("rb") as file:
        if is_pointer(file.read(len(_POINTER))):
            raise UserError(f"{where}{path} is {POINTER}")


def nearest(name: str, options: Iterable[str], others: Mapping[str, Sequence[str]] | None = None) -> str:
    """The end of an error message about a wrong name: the nearest right one, or which there are.

    Args:
        others: by a name that people know from elsewhere, what it may be here.
    """
    options = sorted(map(str, options))
    if meant := next((other for other in (others or {}).get(str(name).lower(), ()) if other in options), None):
        return f"did you mean {meant!r}?"
    match = difflib.get_close_matches(str(name), options, n=1, cutoff=0.5)
    return f"did you mean {match[0]!r}?" if match else f"choose one of {listed(options) or '(none)'}"
