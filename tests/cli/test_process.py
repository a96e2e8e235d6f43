"""What a command sets for its process: its threads, and that freed memory is kept for the next step."""

import errno
import io
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.small_run import small_recipe, values_of, write_recipe
from uniperceiver.cli import main
from uniperceiver.cli.process import settle, settle_for_run, stopped_when_unheard
from uniperceiver.errors import UserError
from uniperceiver.training.stop import stop_on_signals

# Eight blocks of 16 MiB, written and freed, several times; then how many pages the last time asked for.
PROGRAM = """
import ctypes, resource
from uniperceiver.cli.process import keep_freed_memory
print(keep_freed_memory() if {ask} else "not asked")
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]
library.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [library.malloc(2**24) for _ in range(8)]
    for block in blocks:
        library.memset(block, 1, 2**24)
    for block in blocks:
        library.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def asked_and_pages(*, ask: bool, **environment: str) -> tuple[str, int]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(ask=ask)],
        env=clean | environment,
        check=True,
        capture_output=True,
        text=True,
    )
    asked, pages = done.stdout.split("\n")[:2]
    return asked, int(pages)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_the_next_step_asks_for_no_pages() -> None:
    assert asked_and_pages(ask=False)[1] > 1000
    asked, pages = asked_and_pages(ask=True)
    assert asked == "True"
    assert pages < 100


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_settings_of_the_environment_stay(name: str) -> None:
    value = "glibc.malloc.trim_threshold=131072" if name == "GLIBC_TUNABLES" else "131072"
    assert asked_and_pages(ask=True, **{name: value})[0] == "False"


def test_a_command_takes_the_threads_of_its_recipe(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    settle(small_recipe(threads=3))
    settle(small_recipe())  # as torch chooses
    assert threads == [3]
    settle_for_run(trained)
    settle_for_run(tmp_path)  # no run: the command says so itself
    settle_for_run(trained, write_recipe(tmp_path / "other.yaml", values_of(threads=2)))
    assert threads == [3, 2]


def test_memory_is_kept_for_training_on_a_cpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bool] = []
    monkeypatch.setattr("uniperceiver.cli.process.keep_freed_memory", lambda: kept.append(True))
    settle(small_recipe())
    assert not kept
    settle(small_recipe(), trains=True)
    assert kept == [True]
    settle(small_recipe(device="meta"), trains=True)
    assert kept == [True]
    with pytest.raises(UserError, match="device 'abacus'"):
        settle(small_recipe(device="abacus"), trains=True)


@pytest.mark.parametrize(
    ("words", "work"),
    [
        (["evaluate"], "uniperceiver.runs.evaluate.evaluate"),
        (["report"], "uniperceiver.runs.report.renew_report"),
        (["experts"], "uniperceiver.runs.experts.experts_of_run"),
    ],
)
def test_a_command_on_a_run_settles_its_process_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], work: str
) -> None:
    write_recipe(tmp_path / "recipe.yaml", values_of(threads=3))
    (tmp_path / "config.json").write_text("{}")
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)

    def stopped(*arguments: object, **options: object) -> None:
        raise UserError(f"with {threads}")

    monkeypatch.setattr(work, stopped)
    assert main([*words, str(tmp_path)]) == 2
    assert threads == [3]
    if words == ["evaluate"]:
        write_recipe(tmp_path / "other.yaml", values_of(threads=2))
        assert main([*words, str(tmp_path), "--data", str(tmp_path / "other.yaml")]) == 2
        assert threads == [3, 2]


def test_who_reads_no_longer_asks_the_run_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with stopped_when_unheard(), stop_on_signals() as stop:
            print("heard", file=sys.stderr, flush=True)
            assert (os.read(reader, 100), stop.requested) == (b"heard\n", False)
            os.close(reader)
            print("unheard", file=sys.stderr, flush=True)
            assert stop.requested
        with stopped_when_unheard():
            print("no run is there to be stopped", file=sys.stderr, flush=True)
        assert sys.stderr is stream


def test_a_full_disk_is_no_reader_who_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    with stopped_when_unheard(), pytest.raises(OSError, match="No space left"):
        print("unheard", file=sys.stderr)
    monkeypatch.setattr(sys, "stderr", None)
    with stopped_when_unheard():
        print("nothing is written", file=sys.stderr)
