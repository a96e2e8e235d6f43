"""DIRECTORIES that are written whole or not at all: under a hidden name first, then moved to their place."""

import ctypes
import errno
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HIDDEN = ".uniperceiver-tmp-"
_ASIDE = ".uniperceiver-old-"


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A hidden directory to fill, which becomes `folder` at the end of the block, on the disk and in one step.

    A directory of that name is replaced. After an error, or in a process that is killed, `folder` is as it was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    clean(folder.parent, glob.escape(folder.name))  # not what another process is writing beside it
    temporary = Path(tempfile.mkdtemp(prefix=f"{_HIDDEN}{folder.name}-", dir=folder.parent))
    try:
        temporary.chmod(0o755)  # mkdtemp makes it private
        yield temporary
        for path in (*sorted(temporary.iterdir()), temporary):
            _sync(path)
        _put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove(folder: Path) -> None:
    """Delete a directory; it disappears at once, so that none is ever seen half deleted."""
    hidden = Path(tempfile.mkdtemp(prefix=f"{_HIDDEN}{folder.name}-", dir=folder.parent))
    os.rename(folder, hidden / folder.name)
    shutil.rmtree(hidden)


def clean(root: Path, name: str = "*") -> None:
    """Remove what killed processes left in `root`, and finish a replacement that was cut off half-way.

    Args:
        name: pattern of the directories that they were writing.
    """
    for path in root.glob(f"{_ASIDE}{name}"):
        place = root / path.name.removeprefix(_ASIDE)
        if place.exists():
            shutil.rmtree(path)
        else:
            os.rename(path, place)
    for path in root.glob(f"{_HIDDEN}{name}-????????"):
        shutil.rmtree(path, ignore_errors=True)


def _put_in_place(temporary: Path, folder: Path) -> None:
    if not folder.exists():
        os.rename(temporary, folder)
    elif not _exchange(temporary, folder):
        # Two steps where the system has none that swaps; `clean` puts the old one back if they are cut apart.
        aside = folder.with_name(f"{_ASIDE}{folder.name}")
        os.rename(folder, aside)
        try:
            os.rename(temporary, folder)
        except OSError:
            os.rename(aside, folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    _sync(folder.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two directories in one step (Linux: renameat2 with RENAME_EXCHANGE); False where that is not possible."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2 is not None and renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot sync a directory.
        if not (path.is_dir() and error.errno in {errno.EINVAL, errno.ENOTSUP}):
            raise
    finally:
        os.close(handle)


@contextmanager
def only_one(folder: Path) -> Iterator[bool]:
    """Whether this process alone works in the folder until the end of the block; always true where nothing can tell."""
    if sys.platform == "win32":
        yield True
        return
    import fcntl

    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
