"""Work in a forked process, which may be signalled and killed, and starts without importing anything anew."""

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a process ended."""

    code: int  # exit code; minus the number of the signal that killed it
    output: str  # what it wrote to its standard streams

    @property
    def complaint(self) -> str:
        """The one line about what went wrong.

        Raises:
            AssertionError: there is none, or more than one, or a traceback.
        """
        lines = [line for line in self.output.splitlines() if line.startswith("uniperceiver: ")]
        assert len(lines) == 1, self.output
        assert "Traceback" not in self.output, self.output
        return lines[0]


@dataclass(frozen=True, kw_only=True)
class Child:
    """A process that works."""

    pid: int
    streams: Path

    def kill(self, number: signal.Signals) -> None:
        """Signal it."""
        os.kill(self.pid, number)

    def end(self) -> None:
        """Kill it, if it is still there."""
        with suppress(ProcessLookupError, ChildProcessError):
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def wait(self, seconds: float = 120) -> Ended:
        """Its end.

        Raises:
            TimeoutError: it goes on for longer; it is killed.
        """
        deadline = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return Ended(code=os.waitstatus_to_exitcode(status), output=self.streams.read_text(encoding="utf-8"))
            if time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise TimeoutError(self.streams.read_text(encoding="utf-8"))
            time.sleep(0.001)


def start(work: Callable[[], int | None], streams: Path) -> Child:
    """Do the work in a process of its own, in a group of its own, whose output goes to the file `streams`."""
    streams.parent.mkdir(parents=True, exist_ok=True)
    streams.write_bytes(b"")
    pid = os.fork()
    if pid:
        return Child(pid=pid, streams=streams)
    code = 70
    try:
        os.setsid()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a test's timeout is not the child's
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        sys.stdout = sys.stderr = streams.open("a", buffering=1, encoding="utf-8")
        for number in (1, 2):
            os.dup2(sys.stdout.fileno(), number)
        code = work() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(work: Callable[[], int | None], streams: Path) -> Ended:
    """Do the work in a process of its own, and wait for its end."""
    return start(work, streams).wait()
