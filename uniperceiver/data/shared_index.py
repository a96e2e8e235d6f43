"""LARGE INDEXES -> MAPPED FILES: what a source must know of millions of samples, once in the memory of a machine.

A source is an index in memory and samples on demand. Loader processes, which are forked, share it; processes that train
together do not, and each would hold its own. So arrays of many bytes are written to a file that is named by what they
hold, and mapped: whoever opens the same data maps the same file, whose pages the system keeps once, and lets go where
memory is scarce. Values, and so samples and their order, are the same; small sets stay as they are.
"""

import ctypes
import dataclasses
import os
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from uniperceiver.atomic import whole_file

T = TypeVar("T")

LEAST = 2**23  # bytes of an array that is mapped: 8 MiB, a million offsets
_UNUSED = 7 * 24 * 3600  # seconds after which a file that nobody has opened since is removed
_ROOM = 4  # a file takes no more than this part of what is free on its disk
_OWNER = stat.S_IRWXG | stat.S_IRWXO  # rights that nobody else may have


def shared(source: T) -> T:
    """The same source, whose large arrays are mapped; where the disk does not take them, they stay in memory.

    Args:
        source: an opened source, made of frozen dataclasses; nobody else holds it yet.
    """
    folder = _folder()
    if folder is not None and _share(source, folder):
        # Only glibc has it, which else keeps what making the index has used and left.
        with suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)
    return source


def _share(record: Any, folder: Path) -> bool:
    """Map the large arrays in a record, and in the records in it; whether there are any."""
    if isinstance(record, tuple):
        return any([_share(inner, folder) for inner in record])
    if not dataclasses.is_dataclass(record) or isinstance(record, type):
        return False
    any_mapped = False
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, bytes) and len(value) >= LEAST:
            value = np.frombuffer(value, dtype=np.uint8)
        if not isinstance(value, np.ndarray):
            any_mapped |= _share(value, folder)
        elif value.nbytes >= LEAST and not value.dtype.hasobject and not _is_mapped(value):
            with suppress(OSError):  # the disk is full, or lost: memory will do
                object.__setattr__(record, field.name, mapped := _mapped(value, folder))
                any_mapped |= _is_mapped(mapped)
    return any_mapped


def _is_mapped(array: np.ndarray) -> bool:
    """Whether an array is a view of a mapped file, as those of .npy files are."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return False


def _mapped(array: np.ndarray, folder: Path) -> np.ndarray:
    """The same values in a mapped file, which is written if it is not there."""
    array = np.ascontiguousarray(array)
    name = blake2b(f"{array.dtype.str}{array.shape}".encode(), digest_size=16)
    name.update(array.data)
    path = folder / f"{name.hexdigest()}.npy"
    if path.is_file():
        os.utime(path)
    else:
        _remove_unused(folder)
        if array.nbytes > shutil.disk_usage(folder).free // _ROOM:
            return array
        with whole_file(path) as file:
            np.save(file, array, allow_pickle=False)
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    same = mapped.dtype == array.dtype and mapped.shape == array.shape
    return np.asarray(mapped) if same else array


def _folder() -> Path | None:
    """The folder of this user's indexes, on a disk of this machine; None: there is none that is ours alone."""
    user = str(os.getuid()) if hasattr(os, "getuid") else ""
    folder = Path(tempfile.gettempdir()) / f"uniperceiver-indexes-{user}"
    try:
        folder.mkdir(mode=stat.S_IRWXU, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    others = user and (str(status.st_uid) != user or status.st_mode & _OWNER)
    return None if others or not stat.S_ISDIR(status.st_mode) else folder


def _remove_unused(folder: Path) -> None:
    """Remove files that were not opened for days; who maps them still has them."""
    for path in folder.glob("*.npy"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _UNUSED:
                path.unlink()
