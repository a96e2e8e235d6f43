"""`uniperceiver data prepare`, stopped in the middle: whole shards are kept, and it goes on with the others."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.faulty_data import KINDS
from tests.let_go import let_go
from tests.small_run import BASE, write_recipe
from uniperceiver import atomic
from uniperceiver.atomic import only_one
from uniperceiver.data.prepare import prepare as data_prepare
from uniperceiver.data.prepare import shard_writer
from uniperceiver.data.prepare.prepare import prepare_data
from uniperceiver.errors import UserError


def pictures(folder: Path, count: int, faults: Mapping[int, str] | None = None) -> Path:
    """A recipe on some pictures."""
    KINDS["pictures"].write(folder / "pictures", count, faults or {})
    task = {"p": {**KINDS["pictures"].task, "train": dict(KINDS["pictures"].source), "size": 16}}
    return write_recipe(folder / "r.yaml", {**BASE, "tasks": task})


def hashes(folder: Path) -> dict[str, str]:
    """Every file below a folder, by its name."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


SLOWLY = """
import sys, time
from pathlib import Path
from uniperceiver.data.prepare import prepare as data_prepare
from uniperceiver.data.prepare import shard_writer
data_prepare._LEAST, data_prepare._SHARDS = 4, 100
whole = shard_writer._members
shard_writer._members = lambda one, index: time.sleep(0.003) or whole(one, index)
data_prepare.prepare_data(Path(sys.argv[1]), [], Path(sys.argv[2]), 0, quiet=True)
"""


@pytest.mark.slow
def test_it_goes_on_with_whole_shards_whenever_it_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_prepare, "_LEAST", 4)
    monkeypatch.setattr(data_prepare, "_SHARDS", 100)
    recipe, out = pictures(tmp_path, 400, {7: "html"}), tmp_path / "killed"
    prepare_data(recipe, [], tmp_path / "whole", 0, quiet=True)
    expected = hashes(tmp_path / "whole")
    assert len(expected) == 100 + 4  # and classes, recipe, what is broken, what was done
    for shards in (1, 60):
        process = subprocess.Popen(
            [sys.executable, "-c", SLOWLY, str(recipe), str(out)], env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        deadline = time.monotonic() + 120
        while len(list(out.glob("p-train/*.tar"))) < shards and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        there = {name: each for name, each in hashes(out).items() if name.endswith(".tar") and "/." not in name}
        assert shards <= len(there) < 100
        assert there.items() <= expected.items()
    prepare_data(recipe, [], out, 2, quiet=True)
    assert hashes(out) == expected


def test_a_note_without_its_shard_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pictures(tmp_path, 12)
    with monkeypatch.context() as patch:
        patch.setattr(data_prepare, "_finish", lambda *rest: None)
        prepare_data(path, [], tmp_path / "out", 0, quiet=True)
    (tmp_path / "out" / "p-train" / "00000.tar").write_bytes(b"cut")
    (tmp_path / "out" / "p-train" / ".uniperceiver-tmp-00001.tar-abcdefgh").write_bytes(b"cut")
    prepare_data(path, [], tmp_path / "out", 0, quiet=True)
    prepare_data(path, [], tmp_path / "other", 0, quiet=True)
    assert hashes(tmp_path / "out") == hashes(tmp_path / "other")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_is_one_line(workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pictures(tmp_path, 4)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", full)
        with pytest.raises(UserError, match=r"out: cannot be written \(No space left on device\)"), let_go():
            prepare_data(path, [], tmp_path / "out", workers, quiet=True)
    assert prepare_data(path, [], tmp_path / "out", workers, quiet=True).sets[0].samples == 4
    with monkeypatch.context() as patch:
        patch.setattr(shard_writer, "_write", lambda *rest: full(0))
        with pytest.raises(UserError, match=r"00000\.tar: cannot be written \(No space .*; free or mend"), let_go():
            prepare_data(path, [], tmp_path / "new", workers, quiet=True)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = pictures(tmp_path, 4)
    (tmp_path / "out").mkdir()
    with only_one(tmp_path / "out"), pytest.raises(UserError, match="another process is writing there"):
        prepare_data(path, [], tmp_path / "out", 0, quiet=True)
