"""What becomes of memory that a training step has freed: glibc is asked to keep it for the next one.

By default glibc gives large blocks back to the system, which fills every page with zeros when the next step asks for
it again: about a tenth of the time of training on a CPU (docs/performance.md).
"""

import ctypes
import os
import platform

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
