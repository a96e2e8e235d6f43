"""THE NEXT STEP'S BATCHES: of several processes every one makes its own, and knows what it must know of the others."""

from collections.abc import Callable, Iterator
from typing import Any

from uniperceiver.data.mix import Mixture, Plan
from uniperceiver.errors import UserError
from uniperceiver.parallel.environment import AGREED
from uniperceiver.records import Batch, Broken
from uniperceiver.training.processes.team import PlaceOfStep, Team, TeamOfProcesses
from uniperceiver.training.stop import Stopped, StopRequest

_READY, _STOP, _ERROR = 0, 1, 2  # what a process has come to while it waited for its data


BrokenOfPlans = list[tuple[Plan, tuple[Broken, ...]]]


def next_step(
    made: Iterator[Any], mixture: Mixture, plans: Callable[[], list[Plan]], team: Team, stop: StopRequest
) -> tuple[list[tuple[Plan, Batch]], BrokenOfPlans]:
    """This process's batches of the next step, and the broken samples of all, in the order of their places.

    Raises:
        Stopped: a signal asks for it.
        UserError: there are no data.
    """
    if isinstance(team, TeamOfProcesses):
        return shared_step(made, mixture, plans(), team, stop)
    with stop.waiting():
        step = [next(made) for _ in range(mixture.batches_per_step)]
    work = [(plan, batch) for plan, batch, _ in step if batch is not None]
    return work, [(plan, left_out) for plan, _, left_out in step if left_out]


def tasks_of_process(mixture: Mixture, plans: list[Plan], rank: int, size: int) -> list[str]:
    """The tasks of which a process makes batches in a step."""
    owners = zip(plans, mixture.ranks(plans, size), strict=True)
    return list(dict.fromkeys(mixture.sets[plan.index].task.name for plan, owner in owners if owner == rank))


def shared_step(
    made: Iterator[Any], mixture: Mixture, plans: list[Plan], team: TeamOfProcesses, stop: StopRequest
) -> tuple[list[tuple[Plan, Batch]], BrokenOfPlans]:
    """As `next_step`, of several processes.

    All agree once: that they are ready, or that one of them was asked to stop or has no data; and which places have
    a batch.

    Raises:
        Stopped: any process was asked to stop.
        UserError: any process cannot have its data.
    """
    world = team.world
    ranks = mixture.ranks(plans, world.size)
    step: list[tuple[Plan, Batch | None, tuple[Broken, ...]]] = []
    code, error = _READY, ""
    try:
        with stop.waiting():
            step = [next(made) for rank in ranks if rank == world.rank]
    except Stopped:
        code = _STOP
    except UserError as raised:
        code, error = _ERROR, str(raised)
    answers = [0] * len(plans)  # and 1 more, of the places that have a batch
    for plan, batch, _ in step:
        answers[plan.place] = 0 if batch is None else 1 + batch.readout.answers
    code, broken, *answers = world.largest([code, int(any(left_out for *_, left_out in step)), *answers])
    if code == _ERROR:
        refusal = UserError(next(filter(None, world.gather(error))))
        refusal.add_note(AGREED)
        raise refusal
    if code == _STOP:
        stop.requested = True
        raise Stopped
    team.begin(
        plans[0].step,
        [
            PlaceOfStep(
                place=plan.place,
                index=plan.index,
                task=mixture.sets[plan.index].task.name,
                answers=count - 1,
                rank=rank,
            )
            for plan, count, rank in zip(plans, answers, ranks, strict=True)
            if count
        ],
    )
    mine = [(plan, batch) for plan, batch, _ in step if batch is not None]
    if not broken:
        return mine, []
    own = [[plan.place, [vars(sample) for sample in left_out]] for plan, _, left_out in step]
    by_place = {place: samples for lines in world.gather(own) for place, samples in lines}
    return mine, [(plans[place], tuple(Broken(**sample) for sample in by_place[place])) for place in sorted(by_place)]
