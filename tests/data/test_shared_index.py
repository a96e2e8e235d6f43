"""Large indexes are mapped files, one for all processes of a machine: with the same values, and only where it pays."""

import os
import pickle
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.made_data import every_format
from uniperceiver.data import shared_index
from uniperceiver.data.formats import open_source
from uniperceiver.data.formats.files import Strings
from uniperceiver.data.shared_index import shared

MAPPED = ("csv", "tsv", "jsonl", "coco_captions", "webdataset", "parquet of bytes", "files")


@dataclass(frozen=True, kw_only=True)
class Inner:
    stop_I: np.ndarray
    texts: Strings


@dataclass(frozen=True, kw_only=True)
class Whole:
    """An index as formats have them."""

    parts: tuple[Inner, ...]
    small_I: np.ndarray
    names_I: np.ndarray  # of objects


def whole() -> Whole:
    inner = Inner(stop_I=np.arange(1000), texts=Strings.of(f"text {number} \udcff" for number in range(100)))
    return Whole(parts=(inner,), small_I=np.arange(3), names_I=np.array([None] * 1000))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where indexes of this user are kept, with a limit that small arrays reach."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(shared_index, "LEAST", 100)
    path = shared_index._folder()
    assert path is not None
    return path


def mapped_file(array: Any) -> str | None:
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return Path(str(array.filename)).name
        array = array.base
    return None


def test_large_arrays_are_mapped_with_their_values(folder: Path) -> None:
    plain, record = whole(), shared(whole())
    inner = record.parts[0]
    assert mapped_file(inner.stop_I) is not None
    assert mapped_file(inner.texts.blob) is not None
    assert type(inner.stop_I) is np.ndarray  # not a class of its own, which would be slower
    assert np.array_equal(inner.stop_I, plain.parts[0].stop_I)
    assert list(inner.texts) == list(plain.parts[0].texts)
    assert mapped_file(record.small_I) is None
    assert mapped_file(record.names_I) is None
    assert not inner.stop_I.flags.writeable
    again = pickle.loads(pickle.dumps(record))
    assert list(again.parts[0].texts) == list(plain.parts[0].texts)


def test_what_making_a_large_index_has_freed_goes_back_to_the_system(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[int]()
    monkeypatch.setattr(shared_index.ctypes, "CDLL", lambda name: SimpleNamespace(malloc_trim=asked.append))
    shared(whole())
    assert asked == [0]
    shared(Whole(parts=(), small_I=np.arange(3), names_I=np.array([None] * 1000)))  # nothing of it is mapped
    assert asked == [0]
    monkeypatch.setattr(shared_index.ctypes, "CDLL", lambda name: object())  # as on a system without it
    assert mapped_file(shared(whole()).parts[0].stop_I) is not None


def test_the_same_values_are_one_file(folder: Path) -> None:
    first = shared(whole())
    count = len(list(folder.iterdir()))
    second = shared(whole())
    assert mapped_file(first.parts[0].stop_I) == mapped_file(second.parts[0].stop_I)
    assert len(list(folder.iterdir())) == count
    other = Inner(stop_I=np.arange(1000).astype(np.int32), texts=Strings.of([]))
    assert mapped_file(shared(other).stop_I) != mapped_file(first.parts[0].stop_I)
    assert shared(other).stop_I.dtype == np.int32
    assert shared(shared(other)) is other  # what is mapped stays as it is


def test_files_that_nobody_has_opened_for_days_are_removed(folder: Path) -> None:
    record = shared(whole())
    for path in folder.iterdir():
        os.utime(path, (0, time.time() - 8 * 24 * 3600))
    used = mapped_file(shared(Inner(stop_I=np.arange(1000), texts=Strings.of([]))).stop_I)
    shared(Inner(stop_I=np.arange(2000), texts=Strings.of([])))
    names = {path.name for path in folder.iterdir()}
    assert used in names
    assert mapped_file(record.parts[0].texts.blob) not in names
    assert list(record.parts[0].texts) == list(whole().parts[0].texts)  # who maps it still has it


def test_a_disk_that_takes_nothing_leaves_them_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_index, "_ROOM", 10**15)
    assert mapped_file(shared(whole()).parts[0].stop_I) is None

    def full(path: Path) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(shared_index, "LEAST", 100)
    monkeypatch.setattr(shared_index, "whole_file", full)
    record = shared(whole())
    assert mapped_file(record.parts[0].stop_I) is None
    assert list(record.parts[0].texts) == list(whole().parts[0].texts)


def test_a_folder_of_others_is_not_used(folder: Path) -> None:
    folder.chmod(0o777)
    assert mapped_file(shared(whole()).parts[0].stop_I) is None


def test_another_file_of_that_name_is_not_taken(folder: Path) -> None:
    name = mapped_file(shared(whole()).parts[0].stop_I)
    assert name is not None
    np.save(folder / name, np.arange(7))
    assert np.array_equal(shared(whole()).parts[0].stop_I, np.arange(1000))


@pytest.mark.parametrize("name", MAPPED)
def test_samples_of_mapped_indexes_are_the_same(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    spec = dict(every_format(tmp_path / "data"))[name]
    monkeypatch.setattr(shared_index, "LEAST", 2**40)
    plain = open_source(spec, "w", tmp_path / "data")
    monkeypatch.setattr(shared_index, "LEAST", 1)
    mapped = open_source(spec, "w", tmp_path / "data")
    assert list(folder.iterdir())
    assert len(mapped) == len(plain)
    for index in range(len(plain)):
        assert str(mapped.read(index)) == str(plain.read(index))
    assert list(mapped.texts()) == list(plain.texts())


def test_two_processes_map_one_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a line of words\n" * 300_000)
    code = (
        "import sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from pathlib import Path\n"
        "from uniperceiver.data import shared_index\n"
        "from uniperceiver.data.formats import open_source\n"
        "shared_index.LEAST = 2**20\n"
        "source = open_source({'format': 'text', 'path': 'lines.txt'}, 'w', Path(sys.argv[1]))\n"
        "source.read(299_999)\n"
        "print(sorted({line.split()[-1] for line in open('/proc/self/maps') if line.rstrip().endswith('.npy')}))\n"
    )
    if not Path("/proc/self/maps").exists():
        pytest.skip("needs /proc")
    command = [sys.executable, "-c", code, str(tmp_path)]
    outputs = [
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout for _ in range(2)
    ]
    assert outputs[0] == outputs[1]
    assert ".npy" in outputs[0]
