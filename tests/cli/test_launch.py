"""Several processes by one command: exit codes, one log, a stop, a lost process, a new beginning."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.small_run import log_lines, values_of, write_recipe
from uniperceiver.cli import main
from uniperceiver.cli.launch import exit_code, launched
from uniperceiver.training import checkpoint

SECONDS = 240  # for a command, after which it is killed


@pytest.mark.parametrize(
    ("codes", "expected"),
    [([75, 76], 75), ([2, 2], 2), ([76, 1], 76), ([-9], 76), ([1], 1), ([-15, 75], 75), ([1, 2], 2)],
)
def test_the_exit_code_of_all_processes(codes: list[int], expected: int) -> None:
    assert exit_code(codes) == expected


def test_one_process_is_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched([], {}) is None
    assert launched([], {"processes": 1, "nodes": 1}) is None
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "1")
    assert launched([], {"processes": 4}) is None  # it was started by a launcher


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--processes", "0"], "--processes: 0 is too few; give 1 or more"),
        (["--restarts", "-1"], "--restarts: -1 is too few; give 0 or more"),
        (["--nodes", "2"], "--nodes: needs --rendezvous HOST:PORT, a port of one of the machines, the same on all"),
    ],
)
def test_what_cannot_be_launched_is_said(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "none.yaml", "--out", "none", *words]) == 2
    assert capsys.readouterr().err.startswith(f"uniperceiver: {line}")


@contextmanager
def command(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a process group of its own, which is gone at the end of the block."""
    line = [sys.executable, "-m", "uniperceiver", *words]
    with (folder / "streams").open("w") as streams:
        process = subprocess.Popen(
            line, cwd=folder, stdout=streams, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(SECONDS)


def until(step: int, run: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a run has logged a step."""
    end = time.monotonic() + SECONDS
    while not ((run / "log.jsonl").is_file() and any(line["step"] >= step for line in log_lines(run, "train"))):
        assert process.poll() is None, (run.parent / "streams").read_text()
        assert time.monotonic() < end
        time.sleep(0.05)


def processes_of(launcher: int) -> dict[int, int]:
    """The processes that a launcher has started, by their numbers in the run."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    ranks: dict[int, int] = {}
    for pid in map(int, children):
        environment = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
        if match := re.search(r"(?:^|\0)RANK=(\d+)", environment):
            ranks[int(match[1])] = pid
    return ranks


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_run_of_two_processes_is_stopped_killed_and_finished(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"steps": 100_000, "sampling__tasks_per_step": 2, "parallel__timeout": 120}
    recipe, run = write_recipe(tmp_path / "r.yaml", values_of(("colours", "words"), **changes)), tmp_path / "run"
    words = ["train", str(recipe), "--out", str(run), "--processes", "2"]
    with command(tmp_path, *words) as process:
        until(3, run, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 75
    output = (tmp_path / "streams").read_text()
    assert output.count("stopped after saving; the same command goes on from there") == 1
    assert "Traceback" not in output
    newest = checkpoint.newest_valid(run / "checkpoints").path
    assert newest is not None
    saved = checkpoint.step_of(newest)
    assert saved == max(line["step"] for line in log_lines(run, "train"))
    with command(tmp_path, *words) as process:
        until(saved + 2, run, process)
        victim = processes_of(process.pid)[1]
        os.kill(victim, signal.SIGKILL)
        begun = time.monotonic()
        assert process.wait(SECONDS) == 76
        took = time.monotonic() - begun
    output = (tmp_path / "streams").read_text()
    (line,) = re.findall(r"^uniperceiver: .*$", output, re.MULTILINE)
    assert re.fullmatch(
        rf"uniperceiver: process 1 \(host .*, pid {victim}\) is lost in step \d+ with (colours|words); "
        "the same command goes on from the newest checkpoint",
        line,
    )
    assert took < 60, "10 s where the machine is quiet"
    steps = [line["step"] for line in log_lines(run, "train")]
    assert steps == sorted(set(steps))
    last = saved + 600
    with command(tmp_path, *words, f"steps={last}", "--restarts", "1", "--json") as process:
        until(saved + 5, run, process)
        os.kill(processes_of(process.pid)[0], signal.SIGKILL)  # the one that writes and speaks
        assert process.wait(SECONDS) == 0
    output = (tmp_path / "streams").read_text()
    assert "process 0 (host" in output
    assert output.count("uniperceiver: begins anew from the newest checkpoint (1 of 1)") == 1
    assert json.loads(output[output.index("{\n") :])["tasks"].keys() == {"colours", "words"}
    assert output.count("training colours") == 2
    assert (run / "report.html").is_file()
    assert [line["step"] for line in log_lines(run, "train")] == list(range(1, last + 1))


@pytest.mark.slow
def test_torchrun_starts_processes_that_share_one_copy(tmp_path: Path) -> None:
    values = values_of(("colours", "words"), steps=2, sampling__tasks_per_step=2, parallel__shard=0)
    recipe, run = write_recipe(tmp_path / "r.yaml", values), tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    line = [*torchrun, "-m", "uniperceiver", "train", str(recipe), "--out", str(run), "--json"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tasks"].keys() == {"colours", "words"}  # by one of them
    assert done.stderr.count("training colours") == 1
    assert "2 processes" in done.stderr
    assert [line["step"] for line in log_lines(run, "train")] == [1, 2]
    assert len(list((run / "checkpoints" / "step-000002").glob("shard-*"))) == 2
    assert (run / "report.html").is_file()
