"""WHAT TAKES LONGER THAN A MOMENT IS SAID, on standard error: lines about a wait, and bars, or lines instead of them.

Bars are for terminals. Where the stream goes to a file, they would leave it empty for minutes: there, a line is written
every few seconds.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

MOMENT = 2.0  # seconds that nobody minds
BETWEEN = 10.0  # seconds between lines


def shows_bars(console: "Console") -> bool:
    """Whether bars can be drawn there."""
    return console.is_terminal or console.is_jupyter


@contextmanager
def announced(what: str, *, quiet: bool = False) -> Iterator[None]:
    """Say what the block does if it takes longer than a moment, and how long it has taken as it goes on.

    Not around what starts processes: the lines come from a thread.
    """
    if quiet:
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_announce, args=(what, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _announce(what: str, ended: threading.Event) -> None:
    begun, wait, line = time.monotonic(), MOMENT, f"{what} ..."
    while not ended.wait(wait):
        say(line)
        wait = BETWEEN
        line = f"{what}: {time.monotonic() - begun + wait:.0f} s"


def say(text: str) -> None:
    """Write a line for people on the standard error stream."""
    from rich.console import Console

    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)


class Bars:
    """A bar for each of several things, or a line now and then about the one that moves."""

    def __init__(self, progress: "Progress | None", quiet: bool) -> None:
        self._progress, self._quiet = progress, quiet
        self._bars: dict[str, TaskID] = {}
        self._next = time.monotonic() + MOMENT

    def move(self, name: str, done: int, total: int) -> None:
        """Show that so many of so many are done."""
        if self._progress is not None:
            if name not in self._bars:
                self._bars[name] = self._progress.add_task(name, total=total)
            self._progress.update(self._bars[name], completed=done, total=total)
        elif not self._quiet and time.monotonic() >= self._next:
            say(f"{name}: {done:,} of {total:,}")
            self._next = time.monotonic() + BETWEEN

    def remove(self, name: str) -> None:
        """Take away what is done."""
        if self._progress is not None and name in self._bars:
            self._progress.remove_task(self._bars.pop(name))


@contextmanager
def bars(*, quiet: bool = False) -> Iterator[Bars]:
    """Bars that are gone at the end of the block; nothing at all where it is to be quiet."""
    if quiet:
        yield Bars(None, quiet)
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not shows_bars(console):
        yield Bars(None, quiet)
        return
    with Progress(console=console, transient=True) as progress:
        yield Bars(progress, quiet)
