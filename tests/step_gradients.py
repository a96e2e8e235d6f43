"""The gradients of one step in float64, made by any number of processes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from uniperceiver import Recipe
from uniperceiver.data.mix import BatchMaker
from uniperceiver.parallel.world import World
from uniperceiver.records import to_device
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.training.processes.team import PlaceOfStep, TeamOfProcesses, team_of
from uniperceiver.training.step import train_step


def gradients_of_step(world: World, folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Losses and gradients of the first step of a run whose weights are float64 and not trivial."""
    run = prepare_run(recipe, folder, folder / "run", quiet=True, world=world)
    model, objective = run.state.model.double(), run.objective
    stream = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=stream, dtype=torch.float64))
    team = team_of(world, objective, run.state.method, recipe)
    plans = run.mixture.plans(0, [0] * len(run.mixture.sets))
    ranks = run.mixture.ranks(plans, world.size)
    made = [BatchMaker(run.mixture)[plan] for plan in plans]
    work = [(plan, to_device(batch, "cpu", torch.float64)) for plan, batch, _ in made if batch is not None]
    if isinstance(team, TeamOfProcesses):
        places = [
            PlaceOfStep(place=plan.place, index=plan.index, task=batch.task, answers=batch.readout.answers, rank=rank)
            for (plan, batch), rank in zip(work, ranks, strict=True)
        ]
        team.begin(0, places)
    mine = [item for item, rank in zip(work, ranks, strict=True) if rank == world.rank]
    config = replace(recipe.optimiser, clip=0.0)
    report = train_step(run.state, mine, objective, config, 1 / len(plans), team=team)
    losses = [[task, float(loss)] for task, values in report.losses.items() for loss in values]
    return {
        "losses": sorted(line for lines in world.gather(losses) for line in lines),
        "norm": report.grad_norm,
        "gradients": {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None},
        "decided": sum(len(decisions) for decisions in report.decisions.values()),
    }


def furthest(ours: dict[str, Any], expected: dict[str, Any]) -> float:
    """The largest difference of two gradients, in parts of the largest number in the tensor."""
    assert ours["gradients"].keys() == expected["gradients"].keys()
    return max(
        float(
            (value - expected["gradients"][name]).abs().max() / expected["gradients"][name].abs().max().clamp(min=1e-6)
        )
        for name, value in ours["gradients"].items()
    )
