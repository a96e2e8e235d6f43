"""Signals ask a run to stop; as real processes, they make it save and go on bit for bit."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.distributed import HashStore

import uniperceiver
from tests.small_run import log_lines, same_tensors, small_recipe, train, values_of, write_recipe
from uniperceiver.cli import main
from uniperceiver.parallel.world import World
from uniperceiver.training import checkpoint
from uniperceiver.training.stop import EXIT_CODE, Stopped, StopRequest, stop_on_signals

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_noted_and_the_former_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        stop.check()
        os.kill(os.getpid(), number)
        assert stop.requested
        with pytest.raises(Stopped):
            stop.check()
    assert signal.getsignal(number) is before


def test_a_run_under_nohup_outlives_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_to_one_process_stops_the_others_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the batches of an evaluation, where processes make no agreement."""
    seconds = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: seconds)
    store = HashStore()
    worlds = [World(rank=rank, size=2, store=store) for rank in range(2)]
    asked, other = StopRequest(), StopRequest()
    asked.check_with(worlds[0])
    other.check_with(worlds[1])
    asked.requested = True
    with pytest.raises(Stopped):
        asked.check_with(worlds[0])
    other.check_with(worlds[1])  # asks no more than once a second
    seconds += 1.0
    with pytest.raises(Stopped):
        other.check_with(worlds[1])
    assert other.requested
    StopRequest().check_with(World(store=store))  # one process has nobody to ask


def test_the_handlers_come_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError), stop_on_signals():
        raise KeyError
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_in_another_thread_leaves_signals_alone(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    recipe = write_recipe(tmp_path / "r.yaml", values_of(("colours",), steps=2))
    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(uniperceiver.train, recipe, tmp_path / "run", quiet=True).result()
    assert [line["step"] for line in log_lines(tmp_path / "run", "train")] == [1, 2]
    assert done.results["tasks"]["colours"]["val"]["n"] == 12
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_nothing_is_requested_at_first() -> None:
    StopRequest().check()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("where", ["evaluate", "write_report", "write_results"])
def test_a_signal_after_the_last_step_is_a_stop_too(
    number: signal.Signals,
    where: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stopped(*args: Any, **more: Any) -> None:
        os.kill(os.getpid(), number)
        time.sleep(10)

    monkeypatch.setattr("uniperceiver.runs.train.evaluate", lambda *args, **more: {"tasks": {}})
    monkeypatch.setattr(f"uniperceiver.runs.train.{where}", stopped)
    before = signal.getsignal(number)
    recipe = write_recipe(tmp_path / "r.yaml", values_of(("colours",), steps=1))
    assert main(["train", str(recipe), "--out", str(tmp_path / "run")]) == EXIT_CODE
    assert "stopped after saving; the same command goes on from there" in capsys.readouterr().err
    assert signal.getsignal(number) is before
    assert checkpoint.newest_valid(tmp_path / "run" / "checkpoints").path is not None


def test_a_signal_before_the_first_save_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("uniperceiver.runs.train.prepare_run", lambda *args, **more: os.kill(os.getpid(), 2))
    recipe = write_recipe(tmp_path / "r.yaml", values_of(("colours",), steps=1))
    assert main(["train", str(recipe), "--out", str(tmp_path / "run")]) == EXIT_CODE
    assert "stopped before the first save; the same command begins anew" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def _start(recipe: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "uniperceiver", "train", str(recipe), "--out", str(out)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stderr=subprocess.PIPE, start_new_session=True)


def _wait_for_steps(process: subprocess.Popen[str], folder: Path, steps: int) -> None:
    deadline = time.monotonic() + 60
    while not (folder / "log.jsonl").is_file() or len(log_lines(folder, "train")) < steps:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it does not get on"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("whole_group", "number"), [(True, signal.SIGTERM), (False, signal.SIGINT)], ids=["group", "process"]
)
def test_a_process_saves_before_it_stops(tmp_path: Path, whole_group: bool, number: signal.Signals) -> None:
    # Shells and schedulers signal all processes of a job, its loader workers too.
    changes: dict[str, Any] = {"steps": 100_000, "data__workers": 1, "optimiser__ema": 0.9}
    path, out = write_recipe(tmp_path / "recipe.yaml", values_of(**changes)), tmp_path / "run"
    process = _start(path, out)
    _wait_for_steps(process, out, 3)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == EXIT_CODE, said
    assert "stopped after saving" in said
    assert "Traceback" not in said
    newest = checkpoint.newest_valid(out / "checkpoints").path
    assert newest is not None
    tensors, state = checkpoint.read(newest)
    steps = state["step"]
    assert [line["step"] for line in log_lines(out, "train")] == list(range(1, steps + 1))
    # The same in this process: the schedule is that of the long run, so it is stopped, too.
    recipe = small_recipe(**{**changes, "data__workers": 0})
    assert yaml.safe_load((out / "recipe.yaml").read_text())["steps"] == recipe.steps
    train(tmp_path / "whole", recipe, stop_after=steps)
    again, state_again = checkpoint.read(tmp_path / "whole" / "checkpoints" / newest.name)
    assert state == state_again
    assert all(same_tensors(tensors[name], again[name]) for name in tensors)


@pytest.mark.slow
def test_a_process_that_nobody_reads_saves_and_stops(tmp_path: Path) -> None:
    path, out = write_recipe(tmp_path / "recipe.yaml", values_of(("colours",), steps=100_000)), tmp_path / "run"
    process = _start(path, out)
    assert process.stderr is not None
    _wait_for_steps(process, out, 3)
    process.stderr.close()  # as `2>&1 | head` does
    assert process.wait(timeout=60) == EXIT_CODE
    newest = checkpoint.newest_valid(out / "checkpoints").path
    assert newest is not None
    assert [line["step"] for line in log_lines(out, "train")] == list(range(1, checkpoint.step_of(newest) + 1))
