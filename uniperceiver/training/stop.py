"""SIGTERM and SIGINT ask a run to stop; it saves first."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 75  # EX_TEMPFAIL: stopped after saving; the same command goes on


class Stopped(Exception):
    """The run was asked to stop, and has saved."""


class StopRequest:
    """Whether a signal has asked the run to stop."""

    def __init__(self) -> None:
        self.requested = False

    def check(self) -> None:
        """Raise `Stopped` if a signal has come."""
        if self.requested:
            raise Stopped

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """SIGTERM and SIGINT are noted instead of ending the process; the former handlers come back afterwards."""
    request = StopRequest()
    former = {number: signal.signal(number, request._note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
