"""What runs are made to do whose processes share one copy of the weights, by FSDP2 or HSDP; and their like on one."""

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.process_scenarios import READING, TASKS, broken, drifted, poisoned, recipe_of, routed, stopping, trained
from tests.regions_run import region_values
from uniperceiver import Recipe
from uniperceiver.moe.route import TokenRoute
from uniperceiver.moe.token_router import TokenRouter
from uniperceiver.parallel.parts import local
from uniperceiver.parallel.world import World
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.strict import parse
from uniperceiver.training.loop import Run

Scenario = Callable[[World, Path], Any]


def shared_by(processes: int, world: World, recipe: Recipe) -> Recipe:
    """The recipe with weights that so many of the processes share; of one process alone it is as it was."""
    if world.size == 1:
        return recipe
    return replace(recipe, parallel=replace(recipe.parallel, shard=processes))


def parity(condition: str, shard: int, world: World, folder: Path, *, steps: int = 10, **changes: Any) -> Any:
    tasks = READING if condition == "expert_choice" else TASKS
    balance = {"moe__balance__bias_rate": 1e-3, "moe__balance__switch": 0.01} if condition == "token" else {}
    recipe = recipe_of(tasks, steps=steps, model__layers=2, **routed(condition, **balance, **changes))
    return trained(world, folder, shared_by(shard, world, recipe))


def measured(shard: int, world: World, folder: Path) -> Any:
    """A run that is evaluated and saved on its way, and has words drawn as candidates."""
    changes = {"evaluation__every": 2, "evaluation__limit": 4, "candidates__sample": 20, "optimiser__accumulate": 2}
    recipe = recipe_of(("colours", "words"), steps=3, sampling__tasks_per_step=2, **changes)
    return trained(world, folder, shared_by(shard, world, recipe))


def with_regions(shard: int, world: World, folder: Path, *, steps: int = 3) -> Any:
    """Things in pictures, asked of proposals that a module of their own makes."""
    changes = {"sampling__tasks_per_step": 4, "optimiser__warmup": 0, "optimiser__lr": 1e-3, "parallel__shard": 1}
    tasks = ("boxes", "shapes", "colours", "captions")
    recipe = parse(Recipe, region_values(tasks, steps=steps, **changes), "recipe of regions")
    return trained(world, folder, shared_by(shard, world, recipe))


def with_broken(shard: int, world: World, folder: Path) -> Any:
    """All pictures with colours are damaged: steps in which a process has no batch, and an expert that nobody has."""
    with broken("colour"):
        changes = {"data__max_broken": 1.0, "sampling__tasks_per_step": 2}
        recipe = recipe_of(("colours", "words"), steps=6, **changes, **routed("task_specific"))
        return trained(world, folder, shared_by(shard, world, recipe))


def bad_loss(shard: int, world: World, folder: Path) -> Any:
    recipe = recipe_of(steps=3, **routed("attribute"))
    return trained(world, folder, shared_by(shard, world, recipe), poisoned(lambda term: term * float("nan"), (1,), 1))


def held(world: World, folder: Path) -> Any:
    """How many numbers this process holds of the weights and the average, and how many there are."""
    recipe = shared_by(0, world, recipe_of(model__layers=2, **routed("token")))
    state = prepare_run(recipe, folder, folder, quiet=True, world=world).state
    tensors = [*state.model.parameters(), *(state.average or {}).values()]
    return [sum(local(value).numel() for value in tensors), sum(value.numel() for value in tensors)]


@dataclass(frozen=True)
class Walked(TokenRoute):
    """A route as it must not be."""

    context: Any
    weight_TE: torch.Tensor
    chosen_TE: torch.Tensor


def dataclass_as_route(world: World, folder: Path) -> str:
    """FSDP2 walks dataclasses and hands over copies: what is written into one would be lost without a word."""
    make = TokenRouter._route

    def made(self: TokenRouter, *rest: Any) -> Walked:
        route = make(self, *rest)
        return Walked(route.context, route.weight_TE, route.chosen_TE)

    TokenRouter._route = made  # type: ignore[method-assign]
    try:
        return fault_of(world, folder)
    finally:
        TokenRouter._route = make  # type: ignore[method-assign]


def third_pass(world: World, folder: Path) -> str:
    """A loss that encodes something more: the other processes would wait for what it gathers, or take it for theirs."""

    def prepare(run: Run) -> None:
        plain = run.objective.forward

        def forward(batch: Any, plan: Any, **more: Any) -> Any:
            run.state.model.encode(batch.inputs, summary=True)
            return plain(batch, plan, **more)

        run.objective.forward = forward  # type: ignore[method-assign]

    return fault_of(world, folder, prepare)


def fault_of(world: World, folder: Path, prepare: Callable[[Run], None] = lambda run: None) -> str:
    try:
        trained(world, folder, shared_by(0, world, recipe_of(("colours",), steps=1, **routed("token"))), prepare)
    except AssertionError as error:
        return str(error)
    return ""


def not_finite(world: World, folder: Path) -> Any:
    """A weight that the last of the processes alone holds is no number."""

    def prepare(run: Run) -> None:
        if world.rank == world.size - 1:
            with torch.no_grad():
                local(run.state.model.head.linear.weight)[0] = float("nan")

    return trained(world, folder, shared_by(0, world, recipe_of(("colours",), steps=2)), prepare)


def disk_full(world: World, folder: Path) -> Any:
    """The disk of the last process has no room."""
    with full_disk(world.rank == world.size - 1):
        return trained(world, folder, shared_by(0, world, recipe_of(("colours",), steps=2)))


@contextmanager
def full_disk(is_full: bool) -> Iterator[None]:
    from torch.distributed.checkpoint import HuggingFaceStorageWriter

    write = HuggingFaceStorageWriter.write_data

    def refuse(self: Any, *rest: Any) -> Any:
        if is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, *rest)

    HuggingFaceStorageWriter.write_data = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        HuggingFaceStorageWriter.write_data = write  # type: ignore[method-assign]


def drifted_part(world: World, folder: Path) -> Any:
    """As `drifted`, of what another process should have, too."""
    recipe = shared_by(2, world, recipe_of(("colours",), steps=2))
    return drifted(lambda model: local(model.head.linear.weight)[0], recipe, world, folder)


def going_on(to: int, shard: int, world: World, folder: Path) -> Any:
    """Go on in one folder up to a step, whoever made the steps before; and save there."""
    recipe = shared_by(shard, world, recipe_of(steps=8, **routed("attribute")))
    prepare = stopping(to, tuple(range(world.size)), world.rank) if to < 8 else lambda run: None
    return trained(world, folder.parent / "going-on", recipe, prepare)


IN_TWO: Mapping[str, Scenario] = {
    "token": partial(parity, "token", 0, steps=4),
    "whole experts": partial(
        parity, "attribute", 2, steps=3, moe__level="ffn", moe__where="ffn", optimiser__recompute=True
    ),
    "measured": partial(measured, 2),
    "regions": partial(with_regions, 2),
    "broken": partial(with_broken, 2),
    "nan": partial(bad_loss, 0),
    "held": held,
    "dataclass": dataclass_as_route,
    "third pass": third_pass,
    "not finite": not_finite,
    "disk full": disk_full,
    "going on": partial(going_on, 2, 2),
}
IN_FOUR: Mapping[str, Scenario] = {
    "context": partial(parity, "context", 2, steps=3),
    "drifted": drifted_part,
    "going on": partial(going_on, 6, 2),
}
ALONE = ("token", "whole experts", "measured", "regions", "broken", "nan")


def every(scenarios: Mapping[str, Scenario], folder: Path, world: World) -> dict[str, Any]:
    return {
        name: scenario(world, folder / f"{name.replace(' ', '-')}-{world.size}") for name, scenario in scenarios.items()
    }
