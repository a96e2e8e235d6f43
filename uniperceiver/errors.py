"""What goes wrong for a reason that a user can mend: one line that says what, where and how."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend; the command line prints its one line and exits with code 2."""


class BrokenSample(Exception):
    """One sample that cannot be used: its name and the reason. Training leaves it out and counts it."""

    def __init__(self, sample: str, reason: str) -> None:
        super().__init__(sample, reason)  # both in `args`, so that it crosses process borders
        self.sample = _printable(sample)
        self.reason = _printable(" ".join(str(reason).split()))

    def __str__(self) -> str:
        return f"{self.sample}: {self.reason}"


def _printable(text: str) -> str:
    """Halves of characters, as file names and JSON may have them, become question marks: no log could write them."""
    return text.encode("utf-8", "replace").decode("utf-8")


def warn(text: str) -> None:
    """Show a line for people beside an answer, on the standard error stream."""
    from rich.console import Console

    Console(stderr=True).print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def nearest(name: str, options: Iterable[str]) -> str:
    """The end of an error message about a wrong name: the nearest right one, or all that there are."""
    options = sorted(map(str, options))
    match = difflib.get_close_matches(str(name), options, n=1, cutoff=0.5)
    return f"did you mean {match[0]!r}?" if match else f"choose one of {', '.join(options) or '(none)'}"
