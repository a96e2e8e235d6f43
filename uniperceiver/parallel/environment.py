"""WHAT A LAUNCHER SAYS to the processes that it starts, and how they end; without torch, as every command asks."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_CODE = 76  # EX_PROTOCOL: another process is lost; the same command goes on
AGREED = "raised in all processes"
"""The note of an error that every process raises, so that one of them is enough to tell people."""
ALONE = "raised in this process alone"
"""The note of an error that only one of several processes has, which must say it itself."""


class ProcessLost(BaseException):
    """Another process is gone; no `Exception`, so that no library takes it for an error of its own.

    Args:
        text: one line for people.
        speaks: whether this process is the one to say it.
    """

    def __init__(self, text: str, *, speaks: bool = True) -> None:
        super().__init__(text)
        self.speaks = speaks


def was_launched() -> bool:
    """Whether a launcher has started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def speaks() -> bool:
    """Whether this process is the one that speaks for all, as far as its environment tells."""
    return not was_launched() or os.environ["RANK"] == "0"


def processes_here() -> int:
    """How many processes the launcher has started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if was_launched() else 1


def place_of_process(device: str) -> tuple[int, int, str]:
    """This process's number, how many there are, and its device, for work that needs no agreement.

    Args:
        device: of all; several processes on one machine have a GPU each.
    """
    if not was_launched():
        return 0, 1, device
    own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" else device
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), own


@contextmanager
def ended_by_itself() -> Iterator[None]:
    """Within the block, a launched process does not end by SIGTERM where nothing handles it.

    A launcher sends it to all as soon as the first of them has ended, when the others may not have said why yet.
    """
    if not was_launched() or threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
