"""All that may happen to a run of several processes, one after the other in one run; and the same run on one process.

No picture of one task can be read, so that processes have steps without a batch; a loss is not a number in step 20; of
four processes one gets a SIGTERM in step 40, another is killed in step 60; two processes go on, and one ends it.
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tests import processes
from tests.process_scenarios import TASKS, broken, poisoned, recipe_of, routed, stopping, trained
from tests.small_run import log_lines
from uniperceiver import Recipe
from uniperceiver.parallel.world import World
from uniperceiver.training.loop import Run

STEPS = 200
_NOT_A_NUMBER, _STOPPED, _KILLED, _BY_TWO = 20, 40, 60, 120
_EIGHT = (*TASKS, "relations", "clip_captions", "clip_retrieval")
SECONDS = 900.0


@dataclass(frozen=True, kw_only=True)
class Drill:
    """How it went."""

    loss: float  # largest relative difference of a loss to the run on one process
    noticed: float  # seconds from the death of a process to the end of the last of the others
    same_samples: bool
    same_counters: bool
    good: bool


def drill(folder: Path, shard: int) -> Drill:
    """Make the run; `shard` as `parallel.shard`."""
    recipe = recipe_of(_EIGHT, steps=STEPS, data__max_broken=1.0, **routed("attribute"))
    several = replace(recipe, parallel=replace(recipe.parallel, shard=shard))
    poison = poisoned(lambda term: term * float("nan"), (_NOT_A_NUMBER,), 2)

    def work(*prepares: Callable[[Run, World], None]) -> Callable[[World], Any]:
        def train(world: World) -> Any:
            def prepare(run: Run) -> None:
                for change in (lambda run, _: poison(run), *prepares):
                    change(run, world)

            with broken("colour"):
                return trained(world, folder / "several", several, prepare)

        return train

    def stop_at(step: int, ranks: tuple[int, ...]) -> Callable[[Run, World], None]:
        return lambda run, world: stopping(step, ranks, world.rank)(run)

    with broken("colour"):
        one = trained(World(), folder / "one", recipe, poison)
    run = partial(processes.run, seconds=SECONDS)
    stopped = run(4, work(stop_at(_STOPPED, (3,))), folder / "stopped")
    assert {result["counters"][0] for result in stopped} <= {_STOPPED, _STOPPED + 1}
    assert all(result["end"] == "Stopped: " for result in stopped)
    noticed = _killed(processes.start(4, work(_dies), folder / "killed", SECONDS))
    by_two = run(2, work(stop_at(_BY_TWO, (0, 1))), folder / "two")
    (last,) = run(1, work(), folder / "last")
    seen = sorted(batch for result in (*stopped, *by_two, last) for batch in result["seen"])
    return _compared(folder, recipe, one, last, seen, noticed)


def _compared(folder: Path, recipe: Recipe, one: Any, last: Any, seen: list[Any], noticed: float) -> Drill:
    lines = list(zip(log_lines(folder / "several", "train"), log_lines(folder / "one", "train"), strict=True))
    assert len(lines) == recipe.steps
    loss = max(
        abs(ours[key] - line[key]) / abs(line[key])
        for ours, line in lines
        for key in line
        if key.endswith("loss") and line[key]
    )
    same_samples, same_counters = seen == sorted(one["seen"]), last["counters"] == one["counters"]
    good = same_samples and same_counters and noticed <= 20 and loss <= 1e-3  # 10 s where the machine is quiet
    return Drill(loss=loss, noticed=noticed, same_samples=same_samples, same_counters=same_counters, good=good)


def _dies(run: Run, world: World) -> None:
    step = run._step

    def until_killed(work: Any) -> Any:
        if (world.rank, run.state.step) == (1, _KILLED):
            os.kill(os.getpid(), signal.SIGKILL)
        return step(work)

    run._step = until_killed  # type: ignore[method-assign]


def _killed(children: list[processes.forked.Child]) -> float:
    """Seconds from the death of the second process to the end of the others, who must name it."""
    with processes.ended(children):
        assert children[1].wait(SECONDS).code == -signal.SIGKILL
        begun = time.monotonic()
        others = [child.wait(SECONDS) for child in (children[0], *children[2:])]
        took = time.monotonic() - begun
    assert [end.code for end in others] == [76] * 3, [end.output for end in others]
    assert any(f"pid {children[1].pid}) is lost in step {_KILLED}" in end.output for end in others)
    return took
