"""ONE OF W PROCESSES, the others being none: a step with torch's fake process group, and what it would have sent.

Collectives of such a group send nothing and wait for nobody, so the numbers that are learnt mean nothing; how large the
collectives are, and how many, is what it would be. The weights are held whole (ddp). The group is no public part of
torch, and used nowhere else.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from uniperceiver.config import Recipe
from uniperceiver.data.mix import BatchMaker
from uniperceiver.data.tasks import TaskData
from uniperceiver.errors import UserError
from uniperceiver.parallel.world import World
from uniperceiver.runs.plan.devices import amount
from uniperceiver.runs.plan.measure import objective_on_cpu
from uniperceiver.runs.plan.plan import planned_run
from uniperceiver.runs.training import state_of
from uniperceiver.training.processes.team import PlaceOfStep, TeamOfProcesses, team_of
from uniperceiver.training.step import train_step


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What a process has made of a step, the first of W."""

    size: int  # processes
    batches: int  # that the first has
    calls: Mapping[str, int]  # collectives by name
    bytes: Mapping[str, int]  # of their tensors
    held: int  # bytes of weights, moments and average after the step

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "calls": dict(self.calls), "bytes": dict(self.bytes)}

    def as_text(self) -> list[str]:
        """Lines for people."""
        first = (
            f"simulated: a step of the first of {self.size} processes, which has {self.batches} of the batches and all "
            f"weights: {amount(self.held)} of weights, moments and average"
        )
        return [
            first,
            *(f"  {name:<24}{count:>6} calls, {amount(self.bytes[name])}" for name, count in self.calls.items()),
        ]


class _Collectives(TorchDispatchMode):
    """Counts what is handed to collectives."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.bytes = Counter[str](), Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            name = func._schema.name.removeprefix("c10d::").rstrip("_")
            tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
            self.calls[name] += 1
            self.bytes[name] += sum(tensor.nbytes for tensor in tensors)
        return func(*args, **(kwargs or {}))


def simulated(recipe: Recipe, base: Path, size: int, *, tasks: list[TaskData] | None = None) -> Simulated:
    """Make the first step of a recipe as the first of so many processes.

    Args:
        tasks: tasks and sources made by a program, instead of those that the recipe names.

    Raises:
        UserError: as `train` with as many processes; this torch has no such group.
    """
    run = planned_run(recipe, base, size, tasks=tasks)
    objective = objective_on_cpu(run.recipe, run.tasks, run.codec, run.arch)
    state = state_of(run.recipe, objective.model, run.method)
    plans = run.mixture.plans(0, [0] * len(run.tasks))
    ranks = run.mixture.ranks(plans, size)
    maker = BatchMaker(run.mixture)
    made = [(plan, maker[plan][1]) for plan, rank in zip(plans, ranks, strict=True) if rank == 0]
    work = [(plan, batch) for plan, batch in made if batch is not None]
    answers = {plan.place: batch.readout.answers for plan, batch in work}
    with _fake_group(size), _Collectives() as collectives:
        team = team_of(World(rank=0, size=size), objective, state.method, run.recipe)
        assert isinstance(team, TeamOfProcesses)
        team.reduce_with(distributed.all_reduce)  # the wrapper's own waits for what a fake group does not give back
        places = [
            PlaceOfStep(
                place=plan.place,
                index=plan.index,
                task=run.tasks[plan.index].task.name,
                answers=answers.get(plan.place, plan.count),
                rank=rank,
            )
            for plan, rank in zip(plans, ranks, strict=True)
        ]
        team.begin(0, places)
        collectives.calls.clear()  # those of the beginning, by which all have the same weights
        collectives.bytes.clear()
        train_step(state, work, objective, run.recipe.optimiser, 1.0 / len(plans), team=team)
    kept = [*state.model.parameters(), *(state.average or {}).values()]
    kept += [
        value for values in state.optimiser.state.values() for value in values.values() if isinstance(value, Tensor)
    ]
    return Simulated(
        size=size,
        batches=len(work),
        calls=dict(collectives.calls),
        bytes=dict(collectives.bytes),
        held=sum(tensor.nbytes for tensor in kept),
    )


@contextmanager
def _fake_group(size: int) -> Iterator[None]:
    """Within the block, this process is the first of so many that are not there.

    Raises:
        UserError: this torch has no such group, or the process is one of several already.
    """
    try:
        from torch.testing._internal.distributed.fake_pg import FakeStore
    except ImportError as error:
        raise UserError(f"--simulate: torch {torch.__version__} has no fake process group ({error})") from None
    if distributed.is_initialized():
        raise UserError("--simulate: this process is one of several already; give it to a single process")
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=size)
    try:
        yield
    finally:
        distributed.destroy_process_group()
