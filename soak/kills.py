"""Killed and terminated: a process that is killed at any instant leaves a checkpoint; one that is asked saves first."""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from soak import forked
from soak.runs import hash_of_checkpoint, newest_hash, quieten, recipe, train_command, values
from tests.small_run import train
from uniperceiver import Recipe
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.records import Sample
from uniperceiver.runs import prepare as runs
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.training import checkpoint
from uniperceiver.training.log import read_log
from uniperceiver.training.loop import Run
from uniperceiver.training.stop import EXIT_CODE

EVERY = 3  # steps between checkpoints of the runs that are killed
ENDLESS = 100_000
SAMPLES = 8  # in a step
PLACES = ("first step", "training", "evaluation", "saving", "waiting for data")


@dataclass(frozen=True, kw_only=True)
class Kills:
    """What came of killing a run again and again."""

    kills: int
    in_a_save: int  # of them: something was being written
    continued: int  # the newest checkpoint was whole
    most_lost: int  # steps, at a kill
    steps: int  # that the run came to
    equal: bool  # to a run of as many steps that nobody killed


def killed_run(folder: Path, kills: int, workers: int = 0, seed: int = 0) -> Kills:
    """Kill one run that often, every second time while it writes, and go on with it each time.

    Raises:
        AssertionError: a process ended by itself.
    """
    quieten()
    folder.mkdir(parents=True, exist_ok=True)
    rng, out = np.random.default_rng(seed), folder / "run"
    settings = endless(workers)
    in_a_save = continued = most_lost = saved = 0
    for number in range(kills):
        before = set(_hidden(out))
        child = forked.start(lambda: _train(settings, out), folder / "output.txt")
        if number % 4 != 3:  # else already while it begins, and writes its `model` folder
            _wait(child, partial(_has_trained, out, child, saved))
        if number % 2:
            _wait(child, partial(_writes, out, before))
        time.sleep(rng.uniform(0, 0.1 if number % 2 else 1.0))
        child.kill(signal.SIGKILL)
        ended = child.wait()
        assert ended.code == -signal.SIGKILL, ended.output
        in_a_save += _writes(out, before)
        newest = checkpoint.newest_valid(out / "checkpoints")
        saved = 0 if newest.path is None else checkpoint.step_of(newest.path)
        most_lost = max(most_lost, _last_step(out) - saved)
        continued += not newest.skipped
    last = _last_step(out) + 2
    train(out, settings, stop_after=last)
    train(folder / "whole", endless(0), stop_after=last)
    equal = newest_hash(out) == newest_hash(folder / "whole")
    return Kills(kills=kills, in_a_save=in_a_save, continued=continued, most_lost=most_lost, steps=last, equal=equal)


def endless(workers: int) -> Recipe:
    """A run that does not come to its end by itself."""
    return recipe(steps=ENDLESS, checkpoint__every=EVERY, data__workers=workers)


def _train(settings: Recipe, out: Path) -> int:
    prepare_run(settings, out.parent, out, quiet=True).train()
    return 0


def _hidden(out: Path) -> list[Path]:
    return [*out.glob(".uniperceiver-*"), *out.glob("checkpoints/.uniperceiver-*")]


def _has_trained(out: Path, child: forked.Child, saved: int) -> bool:
    """Whether a step after the saved one was finished, by a process that has already cut the log at that one."""
    begun = not saved or "going on after" in child.streams.read_text(encoding="utf-8")
    return begun and _last_step(out) > saved


def _writes(out: Path, before: set[Path]) -> bool:
    return bool(set(_hidden(out)) - before)


def _wait(child: forked.Child, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, child.streams.read_text(encoding="utf-8")
        time.sleep(0.001)


def _last_step(out: Path) -> int:
    """The last step that was finished, by the end of the log: reading all of it would take longer than a step."""
    path = out / "log.jsonl"
    if not path.is_file():
        return 0
    return max((line["step"] for line in read_log(out) if line["event"] == "train"), default=0)


@dataclass(frozen=True, kw_only=True)
class Stop:
    """What came of one SIGTERM."""

    place: str
    code: int
    step: int  # finished when the signal came
    saved: int  # step of the newest checkpoint
    seconds: float  # from the signal to the end of the process
    goes_on: bool  # the same command trains on from there

    @property
    def good(self) -> bool:
        """Saved within one step, the fixed exit code, and continued."""
        return self.code == EXIT_CODE and 0 <= self.saved - self.step <= 1 and self.goes_on


def terminated(folder: Path, place: str, delay: float, step: int, workers: int = 0) -> Stop:
    """Send SIGTERM that many seconds after a run has come to a place, in or after that step.

    Raises:
        AssertionError: it did not end, or without saying so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    evaluations = 2 if place == "evaluation" else 0
    settings = values(steps=ENDLESS, checkpoint__every=2, evaluation__every=evaluations, evaluation__batch=1)
    command = train_command(folder, {**settings, "data": {"workers": workers}})
    signalled = folder / "signalled"
    ended = forked.ended(lambda: _with_signal(command, place, delay, step, signalled), folder / "output.txt")
    seconds = time.time() - signalled.stat().st_mtime
    assert "stopped after saving; the same command goes on from there" in ended.output, ended.output
    assert "Traceback" not in ended.output, ended.output
    newest = checkpoint.newest_valid(folder / "run" / "checkpoints")
    assert newest.path is not None
    saved, before = checkpoint.step_of(newest.path), hash_of_checkpoint(newest.path)
    resumed = forked.start(command, folder / "output again.txt")
    _wait(resumed, lambda: _last_step(folder / "run") >= saved + 1)
    resumed.kill(signal.SIGTERM)
    goes_on = resumed.wait().code == EXIT_CODE and before != newest_hash(folder / "run")
    return Stop(
        place=place,
        code=ended.code,
        step=int(signalled.read_text(encoding="utf-8")),
        saved=saved,
        seconds=seconds,
        goes_on=goes_on,
    )


def _with_signal(command: Callable[[], int], place: str, delay: float, step: int, signalled: Path) -> int:
    """The command, in a process in which a signal comes when the place is reached."""
    seen: list[Run] = []
    timers: list[threading.Timer] = []

    def fire() -> None:
        signalled.write_text(str(seen[0].state.step), encoding="utf-8")
        os.kill(os.getpid(), signal.SIGTERM)

    def reached() -> None:
        if seen and not timers and seen[0].state.step >= step:
            timers.append(threading.Timer(delay, fire))
            timers[0].daemon = True
            timers[0].start()

    def noting(self: Run, log: Any, stop: Any) -> None:
        seen[:] = [self]
        steps(self, log, stop)

    steps, Run._steps = Run._steps, noting  # type: ignore[method-assign]
    if place in ("first step", "training"):
        _before(Run, "_step", reached)
    elif place == "evaluation":
        _before(runs, "validate", reached)
    elif place == "saving":
        _before(checkpoint, "write", reached)
    else:
        _before(Run, "_next_work", reached)
        _hang(seen, after=SAMPLES * step + 3)
    return command()


def _before(owner: Any, name: str, do: Callable[[], None]) -> None:
    original = getattr(owner, name)

    def wrapped(*arguments: Any, **more: Any) -> Any:
        do()
        return original(*arguments, **more)

    setattr(owner, name, wrapped)


def _hang(training: list[Run], after: int) -> None:
    """Reading never comes to an end after that many samples of training, as on a network disk that is gone."""
    read, count = ScenesSource.read, [0]

    def hanging(self: ScenesSource, index: int) -> Sample:
        count[0] += bool(training)
        while count[0] > after:
            time.sleep(3600)
        return read(self, index)

    ScenesSource.read = hanging  # type: ignore[method-assign]
