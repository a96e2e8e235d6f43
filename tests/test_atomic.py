"""Files and directories appear whole or not at all, whatever fails on the way."""

import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from uniperceiver import atomic
from uniperceiver.errors import UserError
from uniperceiver.training import checkpoint


def save(folder: Path, value: float, size: int = 3) -> None:
    checkpoint.write(folder, {"model": {"weight": torch.full((size,), value)}}, {"value": value})


def value_of(folder: Path) -> float:
    tensors, state = checkpoint.read(folder)
    assert tensors["model"]["weight"].eq(state["value"]).all()
    return state["value"]


def failing_at(call: int, function: Callable[..., Any], *, for_good: bool = True) -> Callable[..., Any]:
    """`function`, but its call of that number (and every later one) raises as a full disk does."""
    calls = 0

    def wrapped(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call or (for_good and calls > call):
            raise OSError(28, "No space left on device")
        return function(*arguments)

    return wrapped


@pytest.mark.parametrize("swaps", [True, False], ids=["exchange", "two renames"])
def test_a_folder_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swaps: bool) -> None:
    if not swaps:
        monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    save(tmp_path / "a", 1.0)
    (tmp_path / "a" / "of the old one").touch()
    save(tmp_path / "a", 2.0)
    assert value_of(tmp_path / "a") == 2.0
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["model.safetensors", "state.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750), (0o077, 0o600, 0o700)]
)
def test_files_may_be_read_by_whom_the_umask_says(tmp_path: Path, umask: int, file: int, folder: int) -> None:
    before = os.umask(umask)
    try:
        save(tmp_path / "a", 1.0)
        save(tmp_path / "a", 2.0)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a").iterdir()} == {file}
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == folder
    assert len(list((tmp_path / "a").iterdir())) == 2


# Syncs of a save: model.safetensors, state.json, the new directory; then its parent, when the new one is in place.
@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_sync_that_fails_leaves_a_whole_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    save(tmp_path / "a", 1.0)
    monkeypatch.setattr(os, "fsync", failing_at(call, os.fsync))
    with pytest.raises(UserError, match=r"a: could not be saved \(No space left on device\); free or repair the disk"):
        save(tmp_path / "a", 2.0)
    assert value_of(tmp_path / "a") == (1.0 if call < 4 else 2.0)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_first_rename_that_fails_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a", 1.0)
    monkeypatch.setattr(os, "rename", failing_at(1, os.rename))
    with pytest.raises(UserError, match="b: could not be saved"):
        save(tmp_path / "b", 2.0)
    assert value_of(tmp_path / "a") == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("call", [1, 2])
def test_two_renames_cut_apart_are_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    save(tmp_path / "a", 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", failing_at(call, os.rename))
        with pytest.raises(UserError, match="could not be saved"):
            save(tmp_path / "a", 2.0)
    atomic.clean(tmp_path)
    assert value_of(tmp_path / "a") == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_replacement_that_fails_half_way_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    save(tmp_path / "a", 1.0)
    monkeypatch.setattr(os, "rename", failing_at(2, os.rename, for_good=False))
    with pytest.raises(UserError, match="could not be saved"):
        save(tmp_path / "a", 2.0)
    assert value_of(tmp_path / "a") == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    save(tmp_path / "a", 1.0)
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, most))  # bytes in a file: a larger one fails half-way
    try:
        with pytest.raises(UserError, match="a: could not be saved"):
            save(tmp_path / "a", 2.0, size=50_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
    assert value_of(tmp_path / "a") == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_interrupted_block_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with atomic.whole_folder(tmp_path / "a") as temporary:
            (temporary / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_the_next_save_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    (tmp_path / ".uniperceiver-tmp-a-abcdefgh").mkdir()
    (tmp_path / ".uniperceiver-tmp-a-abcdefgh" / "model.safetensors").write_bytes(b"half")
    (tmp_path / "notes").mkdir()
    save(tmp_path / "a", 1.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "notes"]


def test_what_another_process_is_writing_beside_it_stays(tmp_path: Path) -> None:
    with atomic.whole_folder(tmp_path / "a-b") as other:
        (other / "first").touch()
        save(tmp_path / "a", 1.0)
        (other / "second").touch()
    assert sorted(path.name for path in (tmp_path / "a-b").iterdir()) == ["first", "second"]
    (tmp_path / ".uniperceiver-tmp-step-000001-abcdefgh").mkdir()
    atomic.clean(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a-b"]


def test_a_replacement_cut_off_between_its_renames_is_undone_or_finished(tmp_path: Path) -> None:
    save(tmp_path / ".uniperceiver-old-a", 1.0)
    atomic.clean(tmp_path)
    assert value_of(tmp_path / "a") == 1.0
    save(tmp_path / ".uniperceiver-old-a", 0.0)
    atomic.clean(tmp_path)
    assert value_of(tmp_path / "a") == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_removed_folder_is_never_seen_half_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a", 1.0)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", failing_at(1, os.rename))
        with pytest.raises(OSError, match="No space"):
            atomic.remove(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    atomic.clean(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_whole_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    atomic.write_text(path, "first ä\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing_at(1, os.fsync))
        with pytest.raises(OSError, match="No space"):
            atomic.write_text(path, "second")

    def interrupted() -> None:
        with atomic.whole_file(path) as file:
            file.write(b"third")
            assert path.read_bytes() == "first ä\n".encode()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == "first ä\n".encode()
    assert list(tmp_path.iterdir()) == [path]
    atomic.write_text(path, "")
    assert path.read_bytes() == b""


def test_a_file_that_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    with atomic.whole_file(tmp_path / "a") as file:
        file.write(b"1")
        (half,) = tmp_path.iterdir()
        (tmp_path / half.name.replace("-a-", "-b-")).write_bytes(b"half")
    assert len(list(tmp_path.iterdir())) == 2
    atomic.clean(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_sum_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert atomic.sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_only_one_process_works_in_a_folder(tmp_path: Path) -> None:
    with atomic.only_one(tmp_path) as first, atomic.only_one(tmp_path) as second:
        assert (first, second) == (True, False)
    with atomic.only_one(tmp_path) as again:
        assert again
