"""What a command sets for its whole process, as no call of the library does: threads, freed memory, and who listens.

By default glibc gives large blocks back to the system, which fills every page with zeros when the next step asks for
it again: about a tenth of the time of training on a CPU (docs/performance.md). It is asked to keep them.
"""

import ctypes
import errno
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar, cast

from uniperceiver.parallel.environment import processes_here

if TYPE_CHECKING:
    from uniperceiver.config import Recipe

_Result = TypeVar("_Result")
_TRIM, _MMAP = -1, -3  # of mallopt: free bytes at the heap's end, above which they go back; blocks not on the heap
_NEVER, _LARGEST = 2**31 - 1, 2**25  # the largest values that glibc takes
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, so that its size stays at its peak; whether that could be had.

    Not with another C library than glibc, nor where the environment has settings of its own.
    """
    if platform.libc_ver()[0] != "glibc" or any(os.environ.get(name) for name in _SETTINGS):
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(_MMAP, _LARGEST)) and bool(library.mallopt(_TRIM, _NEVER))


def settle(recipe: "Recipe", *, trains: bool = False) -> None:
    """Give this process the threads that a recipe asks for, and, for training on a CPU, memory that is kept.

    Where the recipe asks for none, several processes share the machine's cores.

    Raises:
        UserError: there is no such device.
    """
    import torch

    from uniperceiver.devices import device_of

    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    elif processes_here() > 1:
        there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, there // processes_here()))
    if trains and device_of(recipe.device).type == "cpu":
        keep_freed_memory()


@contextmanager
def stopped_when_unheard() -> Iterator[None]:
    """Within the block, a run is asked to stop, as by SIGTERM, when nobody reads its standard error stream any more.

    `train ... 2>&1 | head`, a `tee` that dies and a terminal that is closed would end it unsaved.
    """
    stream = sys.stderr
    if stream is None:  # as in a process without a console
        yield
        return
    sys.stderr = cast(TextIO, _Heard(stream))
    try:
        yield
    finally:
        sys.stderr = stream


class _Heard:
    """A stream that notices when its reader has gone; what is written after that goes nowhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, or nothing where nobody reads."""
        return self._attempt(lambda: self._stream.write(text)) or len(text)

    def flush(self) -> None:
        """Write what was kept back."""
        self._attempt(self._stream.flush)

    def _attempt(self, do: Callable[[], _Result]) -> _Result | None:
        try:
            return do()
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:  # while there is something to stop
            signal.raise_signal(signal.SIGTERM)
        return None


def trust_model(path: str | Path) -> None:
    """Execute the Python files that lie beside a model and that it needs.

    Raises:
        UserError: there is no model, or a file of it is damaged or raises an error.
    """
    from uniperceiver.runs.steps import trust_model

    trust_model(path)


def settle_for_run(run: Path, data: Path | None = None, *, trust: bool = False) -> None:
    """Give this process the threads of a run's recipe, or of the recipe whose data are used instead, if any.

    Args:
        trust: also execute the Python files that lie beside the run's model.
    """
    if trust:
        trust_model(run)
    from uniperceiver.config import read_recipe
    from uniperceiver.runs.folder import saved_recipe

    if data is not None:
        settle(read_recipe(data))
    elif (run / "recipe.yaml").is_file():
        settle(saved_recipe(run)[0])
