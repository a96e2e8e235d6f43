"""kill -9 and SIGTERM at any instant: a whole checkpoint, little work lost, one exit code (`make soak`: far more)."""

import json
import multiprocessing
import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from soak import forked, kills
from soak.runs import newest_hash, train_command, values, warm_up
from tests.small_run import log_lines, small_recipe, train
from uniperceiver.atomic import in_use, only_one
from uniperceiver.runs import prepare as run
from uniperceiver.runs import train as finishing
from uniperceiver.runs import validation as measure
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.training import checkpoint
from uniperceiver.training.stop import EXIT_CODE, Stopped, StopRequest, stop_at_once, stop_on_signals

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a first step imports is imported here, and not in each process that is killed."""
    warm_up(tmp_path_factory.mktemp("warm"))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_killed_run_goes_on_from_a_whole_checkpoint(tmp_path: Path, workers: int) -> None:
    found = kills.killed_run(tmp_path, 3, workers)
    assert found.continued == found.kills == 3
    assert found.most_lost <= kills.EVERY
    assert found.equal


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "step", "workers"),
    [
        ("first step", 0, 0),
        ("training", 3, 1),
        ("evaluation", 2, 0),
        ("saving", 2, 0),
        ("waiting for data", 2, 1),
        ("waiting for data", 1, 0),
    ],
)
def test_a_process_that_is_terminated_has_saved(tmp_path: Path, place: str, step: int, workers: int) -> None:
    found = kills.terminated(tmp_path, place, 0.005, step, workers)
    assert found.good, json.dumps(asdict(found))


def test_the_places_of_a_stop_are_all_tried() -> None:
    (mark,) = [each for each in test_a_process_that_is_terminated_has_saved.pytestmark if each.name == "parametrize"]  # type: ignore[attr-defined]
    assert {place for place, _, _ in mark.args[1]} == set(kills.PLACES)


def _terminate(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _terminate_and_hang(*_: Any) -> None:
    _terminate()
    time.sleep(3600)


def test_a_signal_ends_a_wait_for_data_that_never_come(tmp_path: Path) -> None:
    one = prepare_run(small_recipe(steps=9), tmp_path, tmp_path / "run", quiet=True)
    wait = one._next_work

    def hanging(made: Any, log: Any, stop: StopRequest) -> Any:
        def never() -> Any:
            _terminate_and_hang()
            yield

        return wait(never() if one.state.step == 2 else made, log, stop)

    one._next_work = hanging  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        one.train()
    assert [each.name for each in checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints")] == ["step-000002"]
    whole = train(tmp_path / "whole", small_recipe(steps=9))
    assert train(tmp_path / "run", small_recipe(steps=9)).state.consumed == whole.state.consumed
    assert newest_hash(tmp_path / "run") == newest_hash(tmp_path / "whole")


def test_a_signal_in_an_evaluation_gives_the_weights_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_recipe(steps=2, evaluation__every=1, optimiser__ema=0.5)
    one = prepare_run(recipe, tmp_path, tmp_path / "run", quiet=True)
    with monkeypatch.context() as patch:
        patch.setattr("uniperceiver.training.stop._PATIENCE", 0.01)
        patch.setattr(measure, "evaluate", _terminate_and_hang)  # while the model has the averaged weights
        with pytest.raises(Stopped):
            one.train()
    assert log_lines(tmp_path / "run", "evaluate") == []
    train(tmp_path / "whole", recipe)
    train(tmp_path / "run", recipe)
    assert newest_hash(tmp_path / "run") == newest_hash(tmp_path / "whole")


def test_a_signal_during_the_last_save_stops_too(tmp_path: Path) -> None:
    one = prepare_run(small_recipe(steps=1), tmp_path, tmp_path / "run", quiet=True)
    object.__setattr__(one.callbacks, "export", _terminate)
    with pytest.raises(Stopped):
        one.train()
    assert checkpoint.newest_valid(tmp_path / "run" / "checkpoints").path is not None


def test_what_is_saved_already_is_not_saved_again(tmp_path: Path) -> None:
    train(tmp_path, small_recipe(), stop_after=2)
    before = (tmp_path / "checkpoints" / "step-000002").stat()
    train(tmp_path, small_recipe(), stop_after=2)
    after = (tmp_path / "checkpoints" / "step-000002").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_signal_is_not_lost_where_a_library_swallows_it() -> None:
    def swallowing(stop: StopRequest) -> None:
        with stop.waiting(), suppress(Stopped):
            _terminate()
            _terminate()

    with stop_on_signals() as stop, pytest.raises(Stopped):
        swallowing(stop)


def test_a_wait_that_ends_soon_is_not_cut_short() -> None:
    before = signal.signal(signal.SIGALRM, signal.SIG_DFL)  # of a test's timeout
    ended = []

    def waiting(stop: StopRequest) -> None:
        with stop.waiting():
            _terminate()
            time.sleep(0.01)
            ended.append(True)

    try:
        with stop_on_signals() as stop, pytest.raises(Stopped):
            waiting(stop)
        assert ended == [True]
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("free", [True, False], ids=["alarm", "alarm of somebody else"])
def test_a_wait_that_does_not_end_is_cut_short(free: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniperceiver.training.stop._PATIENCE", 0.01)
    before = signal.signal(signal.SIGALRM, signal.SIG_DFL if free else signal.SIG_IGN)

    def waiting(stop: StopRequest) -> None:
        with stop.waiting():
            _terminate()
            time.sleep(3600)

    try:
        with stop_on_signals() as stop, pytest.raises(Stopped):
            waiting(stop)
        assert signal.getsignal(signal.SIGALRM) is (signal.SIG_DFL if free else signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_second_signal_does_not_disturb_the_first() -> None:
    ways_out = []

    def waiting(stop: StopRequest) -> None:
        with stop.waiting():
            try:
                _terminate()
                _terminate()
            finally:
                _terminate()
                ways_out.append("whole")

    with stop_on_signals() as stop, pytest.raises(Stopped):
        waiting(stop)
    assert ways_out == ["whole"]


def test_around_a_run_a_signal_stops_at_once_and_the_former_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped), stop_at_once():
        _terminate()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_a_signal_before_the_first_step_and_after_the_last_has_the_same_exit_code(tmp_path: Path) -> None:
    told = ("before the first save; the same command begins anew", "after saving; the same command goes on from there")
    for (module, name), how in zip(((run, "open_tasks"), (finishing, "write_results")), told, strict=True):
        ended = forked.ended(partial(_signalled_in, tmp_path, module, name), tmp_path / "said.txt")
        assert ended.code == EXIT_CODE, ended.output
        assert f"stopped {how}" in ended.output
    assert checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints")


def _signalled_in(folder: Path, module: ModuleType, name: str) -> int:
    setattr(module, name, _terminate)
    return train_command(folder, values(steps=1))()


def test_a_loader_process_does_not_keep_the_folder_locked(tmp_path: Path) -> None:
    def killed() -> int:
        with only_one(tmp_path):
            multiprocessing.get_context("fork").Process(target=time.sleep, args=(20,)).start()
            time.sleep(0.2)  # the child closes what it inherited when it begins
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    child = forked.start(killed, tmp_path / "said.txt")
    assert child.wait().code == -signal.SIGKILL
    try:
        assert not in_use(tmp_path)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
