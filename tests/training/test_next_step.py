"""What a process of several learns of the next step; here it is asked as one that is alone."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from uniperceiver import UserError
from uniperceiver.data.mix import Plan
from uniperceiver.parallel.environment import AGREED
from uniperceiver.parallel.world import World
from uniperceiver.records import Broken
from uniperceiver.training.processes.next_step import shared_step, tasks_of_process
from uniperceiver.training.processes.team import PlaceOfStep
from uniperceiver.training.stop import Stopped, StopRequest

PLANS = [Plan(step=4, place=place, index=place % 2, start=0, count=3, stage=0) for place in range(4)]
TASKS = [SimpleNamespace(task=SimpleNamespace(name=name)) for name in ("words", "colours")]
MIXTURE: Any = SimpleNamespace(sets=TASKS, ranks=lambda plans, size: [plan.place % size for plan in plans])
LEFT_OUT = {2: (Broken(task="words", sample="b", reason="r"),), 0: (Broken(task="words", sample="a", reason="r"),)}


class Team:
    """Takes note of what it is told."""

    world = World()

    def begin(self, step: int, places: list[PlaceOfStep]) -> None:
        self.step, self.places = step, places


def made(answers: list[int | None]) -> Iterator[Any]:
    """Batches with so many known answers; None: all samples of a place are broken."""
    for plan, count in zip(PLANS, answers, strict=True):
        batch = None if count is None else SimpleNamespace(readout=SimpleNamespace(answers=count))
        yield plan, batch, LEFT_OUT.get(plan.place, ())


def test_places_that_have_a_batch_are_known_with_their_answers() -> None:
    team: Any = Team()
    work, broken = shared_step(made([5, 0, None, 1]), MIXTURE, PLANS, team, StopRequest())
    assert [plan.place for plan, _ in work] == [0, 1, 3]
    assert [(plan.place, left_out) for plan, left_out in broken if left_out] == [(0, LEFT_OUT[0]), (2, LEFT_OUT[2])]
    assert team.step == 4
    assert team.places == [
        PlaceOfStep(place=0, index=0, task="words", answers=5, rank=0),
        PlaceOfStep(place=1, index=1, task="colours", answers=0, rank=0),
        PlaceOfStep(place=3, index=1, task="colours", answers=1, rank=0),
    ]


def test_who_has_no_data_says_why_and_who_was_asked_stops() -> None:
    def failing() -> Iterator[Any]:
        raise UserError("shard 3 is gone")
        yield

    team: Any = Team()
    with pytest.raises(UserError, match=r"^shard 3 is gone\n") as caught:
        shared_step(failing(), MIXTURE, PLANS, team, StopRequest())
    assert (str(caught.value), caught.value.__notes__) == ("shard 3 is gone", [AGREED])
    stop = StopRequest()
    stop.requested = True
    with pytest.raises(Stopped):
        shared_step(made([1, 1, 1, 1]), MIXTURE, PLANS, team, stop)
    assert not hasattr(team, "step")


def test_tasks_of_a_process_are_those_of_its_places() -> None:
    assert tasks_of_process(MIXTURE, PLANS, 0, 1) == ["words", "colours"]
    assert [tasks_of_process(MIXTURE, PLANS, rank, 2) for rank in range(2)] == [["words"], ["colours"]]
