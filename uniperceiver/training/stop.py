"""SIGTERM, SIGINT, and SIGHUP of a terminal that is closed, ask a run to stop; it saves first.

A signal is noted, and looked at between steps and between the batches of an evaluation. Where that takes longer than a
moment, waiting and measuring are cut short: a disk that has stopped answering must not use up the time that a
scheduler gives before it kills.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from uniperceiver.parallel.world import World

EXIT_CODE = 75  # EX_TEMPFAIL: stopped after saving; the same command goes on
_STOP = "stop"  # what a process tells the others
_PATIENCE = 1.0  # seconds that a wait may go on after a signal


class Stopped(BaseException):
    """The run was asked to stop, and has saved; no `Exception`, so that no library takes it for an error of its own."""


class StopRequest:
    """Whether a signal has asked the run to stop."""

    def __init__(self) -> None:
        self.requested = False
        self._waiting = False
        self._reminded = False
        self._next_look = 0.0

    def check(self) -> None:
        """Raise `Stopped` if a signal has come."""
        if self.requested:
            raise Stopped

    def check_with(self, world: World) -> None:
        """Raise `Stopped` if a signal has come to any of the processes; the others are looked at once a second."""
        if world.size > 1 and not self.requested and time.monotonic() >= self._next_look:
            self.requested = world.was_told(_STOP)
            self._next_look = time.monotonic() + _PATIENCE
        if self.requested:
            world.tell(_STOP)
        self.check()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within the block, which must not change what is saved, `Stopped` is raised soon after a signal.

        If the block ends within a second, at its end; else wherever it is then.
        """
        self.check()
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False
            if self._reminded:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                self._reminded = False
        self.check()

    def _note(self, number: int, frame: FrameType | None) -> None:
        first, self.requested = not self.requested, True
        if not self._waiting or (first and self._remind()):
            return
        self._waiting = False  # another signal must not disturb this one's way out
        raise Stopped

    def _remind(self) -> bool:
        """Ask for another signal in a moment; False where that is not possible or the alarm is somebody else's."""
        if not hasattr(signal, "setitimer") or signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
            return False
        self._reminded = True
        signal.signal(signal.SIGALRM, self._note)
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
        return True


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Signals are noted instead of ending the process; the former handlers come back afterwards."""
    request = StopRequest()
    with _handled_by(request._note):
        yield request


@contextmanager
def stop_at_once() -> Iterator[None]:
    """Signals raise `Stopped`: around a run that is saved, so that the exit code is the same at any time."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped

    with _handled_by(stop):
        yield


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """The signals go to a handler; the former ones come back afterwards.

    Python lets the main thread alone set handlers: a run in another thread is stopped by who started that thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM, signal.SIGINT]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        numbers.append(signal.SIGHUP)
    former = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in former.items():
            signal.signal(number, before)
