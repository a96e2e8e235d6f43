"""A clock in a run: where the time of its training steps goes."""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

from torch import Tensor, nn

from uniperceiver import Recipe
from uniperceiver.data.mix import Plan
from uniperceiver.records import Batch
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.training import loop, step
from uniperceiver.training.loop import Run
from uniperceiver.training.objective import TrainingObjective
from uniperceiver.training.processes.team import Team
from uniperceiver.training.step import BatchLoss

INSIDE = ("forward", "backward", "optimiser", "clipping")  # clipping is the optimiser's, as in recipes
OUTSIDE = ("waiting for data", "candidates", "log")  # the rest has no name


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some steps in a row: how long they took, and their named parts."""

    seconds: float
    of: Mapping[str, float]

    @property
    def outside(self) -> float:
        """The share of the time that is neither forward, nor backward, nor optimiser."""
        return 1.0 - sum(self.of.get(name, 0.0) for name in INSIDE) / self.seconds


@dataclass
class Clock:
    """Adds up the time spent in named parts, `every` steps at a time; a part inside another is not counted twice."""

    every: int
    now: Callable[[], float] = time.perf_counter
    parts: list[Part] = field(default_factory=list)
    _spent: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _inner: list[float] = field(default_factory=list)  # of each part that is open: seconds of the parts inside it
    _step: int = -1
    _start: float = 0.0

    def step(self, number: int) -> None:
        """The first batch of that step begins."""
        if number == self._step:
            return
        if number % self.every == 0:
            now = self.now()
            if self._step >= 0:
                self.parts.append(Part(seconds=now - self._start, of=dict(self._spent)))
            self._spent.clear()
            self._start = now
        self._step = number

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """What is done here belongs to that part."""
        self._inner.append(0.0)
        start = self.now()
        try:
            yield
        finally:
            spent = self.now() - start
            self._spent[name] += spent - self._inner.pop()
            if self._inner:
                self._inner[-1] += spent


class _EnoughError(Exception):
    """All parts were timed."""


class _Timed(nn.Module):
    """An objective under a clock, until that number of parts was timed."""

    def __init__(self, objective: TrainingObjective, clock: Clock, parts: int) -> None:
        super().__init__()
        self.objective, self.clock, self.parts, self.samples = objective, clock, parts, objective.samples

    def forward(self, batch: Batch, plan: Plan) -> BatchLoss:
        self.clock.step(plan.step)
        if len(self.clock.parts) == self.parts:
            raise _EnoughError
        with self.clock.on("forward"):
            return self.objective(batch, plan)


def timed_run(recipe: Recipe, base: Path, parts: int, every: int) -> Sequence[Part]:
    """Train in a temporary folder; `every` steps at a time are a part, after one that is not looked at.

    Evaluations and checkpoints are left out: how often they come is the recipe's choice.
    """
    recipe = replace(
        recipe,
        steps=max(recipe.steps, (parts + 1) * every + 1),
        evaluation=replace(recipe.evaluation, every=0),
        checkpoint=replace(recipe.checkpoint, every=10**9),
    )
    clock = Clock(every)
    with tempfile.TemporaryDirectory() as folder:
        run = prepare_run(recipe, base, Path(folder) / "run", quiet=True)
        run.objective = _Timed(run.objective, clock, parts + 1)  # type: ignore[assignment]
        with _under(clock), suppress(_EnoughError):
            run.train()
    return clock.parts[1:]


@contextmanager
def _under(clock: Clock) -> Iterator[None]:
    """The places of the training loop that an objective does not see, under the clock."""

    def timed(name: str, function: Any) -> Any:
        def run(*arguments: Any, **named: Any) -> Any:
            with clock.on(name):
                return function(*arguments, **named)

        return run

    def waiting(*arguments: Any) -> Iterator[Any]:
        items = iter(loaded(*arguments))
        while True:
            with clock.on("waiting for data"):
                item = next(items)
            yield item

    loaded = loop.load
    with ExitStack() as patches:
        for place, name, part in (
            (TrainingObjective, "candidates", "candidates"),
            (Tensor, "backward", "backward"),
            (step, "_update", "optimiser"),
            (Team, "clip", "clipping"),
            (Run, "_log", "log"),
        ):
            patches.enter_context(mock.patch.object(place, name, timed(part, getattr(place, name))))
        patches.enter_context(mock.patch.object(loop, "load", waiting))
        yield
