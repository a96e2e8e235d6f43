"""What a command sets for its whole process, as no call of the library does: threads, and what becomes of freed memory.

By default glibc gives large blocks back to the system, which fills every page with zeros when the next step asks for
it again: about a tenth of the time of training on a CPU (docs/performance.md). It is asked to keep them.
"""

import ctypes
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uniperceiver.config import Recipe

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

    Raises:
        UserError: there is no such device.
    """
    import torch

    from uniperceiver.devices import device_of

    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    if trains and device_of(recipe.device).type == "cpu":
        keep_freed_memory()


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
