"""FILES AND DIRECTORIES that are written whole or not at all: under a hidden name first, then moved to their place."""

import ctypes
import errno
import glob
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.util import register_after_fork
from pathlib import Path
from typing import IO
from uuid import uuid4

_HIDDEN = ".uniperceiver-tmp-"
_ASIDE = ".uniperceiver-old-"
_LOCK = ".lock"


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A hidden file to fill, which becomes `path` at the end of the block, when it is on the disk.

    A file of that name is replaced. After an error, or in a process that is killed, `path` is as it was.
    """
    temporary = _hidden(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8 as a whole file, see `whole_file`."""
    with whole_file(path) as file:
        file.write(text.encode("utf-8"))


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits: whether it is the file that was written."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A hidden directory to fill, which becomes `folder` at the end of the block, on the disk and in one step.

    A directory of that name is replaced. After an error, or in a process that is killed, `folder` is as it was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    clean(folder.parent, glob.escape(folder.name))  # not what another process is writing beside it
    temporary = Path(tempfile.mkdtemp(prefix=f"{_HIDDEN}{folder.name}-", dir=folder.parent))
    try:
        mode = _usual_mode(temporary)
        yield temporary
        files = sorted(temporary.iterdir())
        for path in filter(Path.is_file, files):
            path.chmod(mode)  # safetensors writes through a private file
        temporary.chmod(mode | (mode & 0o444) >> 2)  # mkdtemp makes it private, too; who may read may also enter
        for path in (*files, temporary):
            _sync(path)
        _put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove(folder: Path) -> None:
    """Delete a directory; it disappears at once, so that none is ever seen half deleted."""
    # Under a new name, not in a new directory: a full disk has no room for one.
    hidden = _hidden(folder)
    os.rename(folder, hidden)
    shutil.rmtree(hidden)


def clean(root: Path, name: str = "*") -> None:
    """Remove what killed processes left in `root`, and finish a replacement that was cut off half-way.

    Args:
        name: pattern of the files and directories that they were writing.
    """
    for path in root.glob(f"{_ASIDE}{name}"):
        folder = root / path.name.removeprefix(_ASIDE)
        if folder.exists():
            shutil.rmtree(path)
        else:
            os.rename(path, folder)
    for path in root.glob(f"{_HIDDEN}{name}-????????"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _hidden(path: Path) -> Path:
    """A new name beside `path`, which `clean` knows."""
    return path.with_name(f"{_HIDDEN}{path.name}-{uuid4().hex[:8]}")


def _usual_mode(folder: Path) -> int:
    """The permissions of a new file there, as the umask (or the folder's access list) has them."""
    probe = folder / "probe"
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    return mode


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


def _exchange(first: Path, second: Path) -> bool:
    """Swap two directories in one step (Linux: renameat2 with RENAME_EXCHANGE); False where that is not possible."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2 is not None and renameat2(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0


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

    with (folder / _LOCK).open("a") as file:
        # A killed process leaves workers behind for a moment; they must not keep the folder locked.
        register_after_fork(file, lambda inherited: inherited.close())
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def foreign_names(folder: Path) -> list[str]:
    """What lies in a folder beside a lock and what is being written there; nothing where there is no folder."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [name for name in names if name != _LOCK and not name.startswith((_HIDDEN, _ASIDE))]


@contextmanager
def folder_to_fill(folder: Path) -> Iterator[None]:
    """A folder that is there in the block, and gone again if an error ends the block before anything lies in it."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if made and not foreign_names(folder):
            (folder / _LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # somebody else has put something there meanwhile
                for path in made:
                    path.rmdir()
        raise


def was_locked(folder: Path) -> bool:
    """Whether `only_one` has been asked for the folder, now or before."""
    return (folder / _LOCK).is_file()


def in_use(folder: Path) -> bool:
    """Whether another process works in the folder, as far as that can be told; nothing is written."""
    if not was_locked(folder):
        return False
    with only_one(folder) as alone:
        return not alone
