"""What several processes know of their step, from what each has of it; the others' part is made up."""

import math
from types import SimpleNamespace
from typing import Any

import torch

from uniperceiver.moe.statistics import GatePlace
from uniperceiver.training.processes.team import PlaceOfStep, TeamOfProcesses


def team_with(*others: Any) -> TeamOfProcesses:
    """A process that gathers what it has and what others have."""
    team = TeamOfProcesses.__new__(TeamOfProcesses)
    world: Any = SimpleNamespace(device=torch.device("cpu"), gather=lambda own: [own, *others])
    team.world = world
    team.begin(
        3,
        [
            PlaceOfStep(place=place, index=0, task=task, answers=1, rank=place % 2)
            for place, task in enumerate(("words", "colours", "words"))
        ],
    )
    return team


def test_loads_of_gates_are_added_up_over_processes() -> None:
    here, there = GatePlace(1, "ffn", 0), GatePlace(0, "attention", 0)
    team = team_with([[*here, torch.tensor([3, 4])], [*there, torch.tensor([5, 6])]], [[*here, torch.tensor([10, 0])]])
    loads = team.loads({here: torch.tensor([1, 2])})
    assert {place: count_E.tolist() for place, count_E in loads.items()} == {there: [5, 6], here: [14, 6]}
    assert list(loads) == [there, here]  # the same order in all processes


def test_the_first_task_with_a_loss_that_is_not_finite_is_named_by_all() -> None:
    fine = {"words": [torch.tensor(1.0)]}
    assert team_with(["colours"]).bad_task(fine, math.nan) == "colours"
    assert team_with(["colours"]).bad_task({"words": [torch.tensor(math.inf)]}, math.nan) == "words"
    assert team_with([]).bad_task(fine, math.nan) is None
    assert team_with(["colours"]).bad_task(fine, 1.0) is None
