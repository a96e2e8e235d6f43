"""Stopped and continued: the state after the last step is that of a run that was never stopped, bit for bit."""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from soak.runs import MODELS, SIZES, TASKS, newest_hash, recipe
from uniperceiver.data.mix import Mixture
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.training.loop import Run
from uniperceiver.training.stop import Stopped

STEPS = 8
WARMUP = 3
WORKERS: dict[str, tuple[int, ...]] = {
    "0": (0,),
    "2": (2,),
    "4": (4,),
    "changed": (2, 0, 4),
}  # of one start after another
MODES = ("mixed", "unmixed")


class Killed(BaseException):
    """Stands for a process that ends without saving."""


def _after(step: int) -> Callable[[Run], None]:
    """A signal when that many steps are done."""

    def arm(run: Run) -> None:
        between = run._evaluate_and_save

        def evaluate_and_save(log: Any, stop: Any) -> None:
            if run.state.step == step:
                os.kill(os.getpid(), signal.SIGTERM)
            between(log, stop)

        run._evaluate_and_save = evaluate_and_save  # type: ignore[method-assign]

    return arm


def _within(step: int, happens: Callable[[], None]) -> Callable[[Run], None]:
    """Something happens when the first of a step's batches has been through, and the others have not."""

    class Work(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            for place, state in enumerate(super().__iter__()):
                if place == 1:
                    happens()
                yield state

    def arm(run: Run) -> None:
        do = run._step
        run._step = lambda work: do(Work(work) if run.state.step == step else work)  # type: ignore[method-assign]

    return arm


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _kill() -> None:
    raise Killed


def _first(mixture: Mixture, holds: Callable[[list[int]], bool]) -> int:
    """The first step after the warm-up, before the last one, at whose end the samples seen are so."""
    seen = [0] * len(mixture.sets)
    for step in range(STEPS - 1):
        for plan in mixture.plans(step, seen):
            seen[plan.index] += plan.count
        if step + 1 > WARMUP and holds(seen):
            return step + 1
    raise LookupError("the recipe has no such step: change its sizes")


def _at_an_end(seen: list[int]) -> bool:
    return any(count and count % SIZES[name] == 0 for name, count in zip(TASKS, seen, strict=True))


def _smallest_ran_out(seen: list[int]) -> bool:
    smallest = min(TASKS, key=SIZES.__getitem__)
    return seen[TASKS.index(smallest)] >= SIZES[smallest]


def stops(mixture: Mixture) -> dict[str, list[Callable[[Run], None]]]:
    """Where a run of this mixture is stopped, by name; one entry per stop."""
    middle = _first(mixture, lambda seen: not _at_an_end(seen))
    return {
        "mid-epoch": [_after(middle)],
        "epoch end": [_after(_first(mixture, _at_an_end))],
        "inside accumulation": [_within(5, _terminate)],
        "killed inside accumulation": [_within(5, _kill)],
        "in warm-up": [_after(WARMUP - 1)],
        "smallest set ran out": [_after(_first(mixture, _smallest_ran_out))],
        "twice": [_after(middle), _after(middle + 2)],
    }


STOPS = (
    "mid-epoch",
    "epoch end",
    "inside accumulation",
    "killed inside accumulation",
    "in warm-up",
    "smallest set ran out",
    "twice",
)


def cells() -> list[tuple[str, str, str, str]]:
    """All of the matrix: workers, stop, mode, model."""
    return list(itertools.product(WORKERS, STOPS, MODES, MODELS))


def uninterrupted(folder: Path, mode: str, model: str) -> str:
    """The hash of a run that nobody stops."""
    _prepare(folder, mode, model, 0).train()
    return newest_hash(folder)


def stopped(folder: Path, workers: str, stop: str, mode: str, model: str) -> str:
    """The hash of a run that is stopped there and continued.

    Raises:
        AssertionError: it did not stop.
    """
    counts = itertools.cycle(WORKERS[workers])
    run = _prepare(folder, mode, model, next(counts))
    for arm in stops(run.mixture)[stop]:
        arm(run)
        try:
            run.train()
        except (Stopped, Killed):
            run = _prepare(folder, mode, model, next(counts))
        else:
            raise AssertionError(f"{stop}: the run was not stopped")
    run.train()
    return newest_hash(folder)


def _prepare(folder: Path, mode: str, model: str, workers: int) -> Run:
    # A seed with which every kind of stop occurs in both modes.
    changes = {"seed": 2, "sampling__mode": mode, "steps": STEPS, "checkpoint__every": 3, "data__workers": workers}
    return prepare_run(recipe(model, **changes), folder, folder, quiet=True)
