"""Disks that fail: full, read-only, with errors, or with other bytes than were written."""

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from soak import forked
from soak.runs import hash_of_checkpoint, newest_hash, quieten, recipe, train_command, values
from tests.small_run import train
from uniperceiver.errors import UserError
from uniperceiver.training import checkpoint

ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES)
STEPS, STOPPED = 4, 2
_NEW_NAMESPACE = 0x00020000  # CLONE_NEWNS: mounts of this process alone
_WRITES = frozenset({"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod"})


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What came of going on with a run on a disk that fails."""

    what: str
    code: int
    output: str  # the one line; empty where the command succeeded
    intact: bool  # what was saved before is still there, byte for byte, or something newer is whole
    equal: bool  # mended, the same command comes to the state of a run that never failed

    @property
    def good(self) -> bool:
        """Succeeded all the same, or failed in one line; nothing was lost."""
        return self.intact and self.equal and (self.code == 0 or (self.code == 2 and bool(self.output)))


class Trial:
    """A run that has stopped half-way, to go on with under all kinds of faults."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        quieten()  # as the runs that go on do, which are compared with this one
        settings: dict[str, Any] = {"steps": STEPS, "checkpoint__every": STOPPED}
        train(folder / "whole", recipe(**settings))
        self.expected = newest_hash(folder / "whole")
        train(folder / "stopped", recipe(**settings), stop_after=STOPPED)
        self._values = values(**settings)

    def copy(self, place: Path) -> Callable[[], int]:
        """The stopped run as `place/run`, and what goes on with it."""
        place.mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.folder / "stopped", place / "run")
        return train_command(place, self._values)

    def outcome(self, what: str, place: Path, ended: forked.Ended, again: Callable[[], int]) -> Failure:
        """Look at the run after a failure, then go on with it on a disk that works."""
        intact = self._intact(place / "run" / "checkpoints")
        second = forked.ended(again, self.folder / "output again.txt")
        assert second.code == 0, second.output
        return Failure(
            what=what,
            code=ended.code,
            output=ended.complaint if ended.code else "",
            intact=intact,
            equal=newest_hash(place / "run") == self.expected,
        )

    def _intact(self, root: Path) -> bool:
        before = checkpoint.step_folder(self.folder / "stopped" / "checkpoints", STOPPED)
        newest = checkpoint.newest_valid(root)
        assert newest.path is not None
        assert not newest.skipped, newest.skipped
        if newest.path.name != before.name:
            return hash_of_checkpoint(newest.path) == self.expected
        return all((newest.path / file.name).read_bytes() == file.read_bytes() for file in before.iterdir())


def failing_calls(trial: Trial, error: int, numbers: Iterator[int], *, for_good: bool) -> Iterator[Failure]:
    """Go on with the run, and let the call of each number that changes a file or folder fail.

    Args:
        for_good: all later ones fail, too, as on a full disk; else only this one.
    """
    for number in numbers:
        place = trial.folder / f"{errno.errorcode[error]}-{number}-{for_good}"
        work = trial.copy(place)
        ended = forked.ended(
            lambda work=work, number=number, place=place: _with_failing(work, place, error, number, for_good),  # type: ignore[misc]
            trial.folder / "output.txt",
        )
        yield trial.outcome(f"{errno.errorcode[error]} at call {number}", place, ended, work)
        shutil.rmtree(place)


def count_calls(trial: Trial) -> int:
    """How many calls of going on with the run change a file or folder."""
    place, counted = trial.folder / "counted", trial.folder / "count.txt"
    work = trial.copy(place)

    def count() -> int:
        calls = _fail(place, 0, 1 << 40, for_good=True)
        code = work()
        counted.write_text(str(calls[0]), encoding="utf-8")
        return code

    assert forked.ended(count, trial.folder / "output.txt").code == 0
    shutil.rmtree(place)
    return int(counted.read_text(encoding="utf-8"))


def _with_failing(work: Callable[[], int], place: Path, error: int, number: int, for_good: bool) -> int:
    _fail(place, error, number, for_good=for_good)
    return work()


def _fail(place: Path, error: int, number: int, *, for_good: bool) -> list[int]:
    """From now on, in this process, calls that write below `place` are counted, and fail from that number on."""
    calls = [0]

    def check(path: object) -> None:
        if not str(path).startswith(str(place)):
            return
        calls[0] += 1
        if calls[0] == number or (for_good and calls[0] > number):
            raise OSError(error, os.strerror(error), str(path))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        opened = event == "open" and isinstance(arguments[0], str | bytes) and _writes(*arguments[1:3])
        if opened or event in _WRITES:
            check(os.fsdecode(arguments[0]))

    sync = os.fsync

    def failing_sync(handle: Any) -> None:
        check(os.readlink(f"/proc/self/fd/{handle}"))
        sync(handle)

    os.fsync = failing_sync  # type: ignore[assignment]
    sys.addaudithook(hook)
    return calls


def _writes(mode: str | None, flags: int | None) -> bool:
    return bool(set(mode or "") & set("wax+")) or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def full_disk(trial: Trial, sizes: int) -> list[Failure] | None:
    """Go on with the run on disks of growing size, from no free page to nearly enough, and on a read-only one.

    Real disks in memory, in a namespace of mounts of its own; None where a process may not have one.
    """
    results = trial.folder / "full.json"
    ended = forked.start(lambda: _in_namespace(trial, sizes, results), trial.folder / "namespace.txt").wait(3600)
    if ended.code == 77:
        return None
    assert ended.code == 0, ended.output
    return [Failure(**failure) for failure in json.loads(results.read_text(encoding="utf-8"))]


def _in_namespace(trial: Trial, sizes: int, results: Path) -> int:
    if ctypes.CDLL(None).unshare(_NEW_NAMESPACE) != 0 or _mount("--make-rprivate", "/"):
        return 77
    place, failures = trial.folder / "disk", []
    place.mkdir()
    if _mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", place):
        return 77
    work = trial.copy(place)
    least = _used(place)
    forked.ended(work, trial.folder / "output.txt")
    # While it saves, there are two checkpoints and two models.
    most = least + int(0.7 * (_used(place) - least)) + _size(place / "run" / "model")
    limits = [str(int(limit)) for limit in np.linspace(least, most, sizes)]
    for limit in [*limits, "read-only"]:
        shutil.rmtree(place / "run")
        (place / "recipe.yaml").unlink()
        work = trial.copy(place)
        _remount(place, "ro" if limit == "read-only" else f"size={limit}")
        ended = forked.ended(work, trial.folder / "output.txt")
        _remount(place, "rw,size=64m")
        failures.append(trial.outcome(f"disk of {limit}", place, ended, work))
    results.write_text(json.dumps([asdict(failure) for failure in failures]), encoding="utf-8")
    return 0


def _mount(*words: str | Path) -> int:
    return subprocess.run(["mount", *words], check=False, capture_output=True).returncode


def _remount(place: Path, options: str) -> None:
    assert _mount("-o", f"remount,{options}", place) == 0, options


def _used(place: Path) -> int:
    facts = os.statvfs(place)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What came of damaging the newest of two checkpoints."""

    what: str
    detected: bool
    fell_back: bool  # to the one before, and said so


def damages(trial: Trial, truncations: int, flips: int, seed: int = 0) -> Iterator[Damage]:
    """Cut files of the newest checkpoint short, then flip single bits, at places all over its files."""
    rng = np.random.default_rng(seed)
    root = trial.folder / "whole" / "checkpoints"
    newest, before = (checkpoint.step_folder(root, step) for step in (STEPS, STOPPED))
    files = sorted(newest.iterdir())
    for number in range(truncations + flips):
        # Every file as often, so that the small ones are not left out.
        path = files[number % len(files)]
        data = path.read_bytes()
        place = int(rng.integers(len(data)))
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data[:place] if number < truncations else flipped)
        what = f"{path.name} {'cut' if number < truncations else 'flipped'} at {place}"
        try:
            yield _noticed(what, root, newest, before)
        finally:
            path.write_bytes(data)


def _noticed(what: str, root: Path, newest: Path, before: Path) -> Damage:
    try:
        checkpoint.read(newest)
        detected = False
    except UserError as error:
        detected = newest.name in str(error) and "\n" not in str(error)
    newest_whole = checkpoint.newest_valid(root)
    reported = len(newest_whole.skipped) == 1 and newest.name in newest_whole.skipped[0]
    return Damage(what=what, detected=detected, fell_back=newest_whole.path == before and reported)
