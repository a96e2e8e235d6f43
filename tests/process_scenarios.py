"""What runs on one process, on two and on four are made to do: each scenario gives back what the process came to."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.small_run import small_recipe
from tests.step_gradients import gradients_of_step
from uniperceiver import Recipe
from uniperceiver.data.mix import Plan
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.evaluation import split
from uniperceiver.evaluation.answers import retrieval
from uniperceiver.model.model import Generalist
from uniperceiver.parallel.environment import AGREED
from uniperceiver.parallel.parts import whole
from uniperceiver.parallel.world import World
from uniperceiver.runs.evaluate import evaluate
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.training import checkpoint, step_candidates
from uniperceiver.training.loop import Run
from uniperceiver.training.step import BatchLoss
from uniperceiver.training.stop import Stopped

TASKS = ("colours", "motions", "words", "captions", "retrieval")
READING = ("colours", "relations", "words", "retrieval")  # experts cannot choose among the words of a text they write
IN_BATCHES = "expert_choice in batches"
CONDITIONS = ("shared", "attribute", "token", "context", "task_specific", "expert_choice", IN_BATCHES)
METHODS = ("uncertainty", "gradnorm", "dwa", "pcgrad", "cagrad", "nash", "famo", "own_moments", "tbgn")

Scenario = Callable[[World, Path], Any]


def recipe_of(tasks: tuple[str, ...] = TASKS, **changes: Any) -> Recipe:
    """Steps of four batches, at a learning rate from the first step on."""
    base = {"sampling__tasks_per_step": 4, "optimiser__warmup": 0, "optimiser__lr": 1e-3, "optimiser__ema": 0.9}
    return small_recipe(tasks, **{**base, **changes})


def routed(condition: str, **changes: Any) -> dict[str, Any]:
    experts = {} if condition == "shared" else {"moe__experts": 4, "moe__k": 2}
    if condition == IN_BATCHES:
        condition, experts = "expert_choice", {**experts, "moe__group": "batch", "moe__serve_answer": True}
    return {"moe__condition": condition, **experts, **changes}


def trained(world: World, folder: Path, recipe: Recipe, prepare: Callable[[Run], None] = lambda run: None) -> Any:
    """What a run comes to: its weights in short, who has no gradient, what it saw, and how it ended."""
    run = prepare_run(recipe, folder, folder, quiet=True, world=world)
    prepare(run)
    before = {name: whole(value.detach()).clone() for name, value in run.state.model.named_parameters()}
    seen: list[Any] = []
    step = run._step

    def noted(work: Any) -> Any:
        seen.extend([plan.step, plan.place, list(batch.ids)] for plan, batch in work)
        return step(work)

    run._step = noted  # type: ignore[method-assign]
    end, agreed = "", True
    try:
        run.train()
    except (UserError, Stopped) as error:
        end = f"{type(error).__name__}: {error}"
        agreed = isinstance(error, Stopped) or AGREED in getattr(error, "__notes__", ())
    named = dict(run.state.model.named_parameters())
    buffers = [value.float().sum() for name, value in run.state.model.named_buffers() if name.endswith("bias_E")]
    return {
        "hash": [float(whole(value.detach()).sum(dtype=torch.float64)) for value in named.values()],
        "without": [name for name, value in named.items() if value.grad is None],
        "moments": sorted(name for name, value in named.items() if value in run.state.optimiser.state),
        "changed": sorted(
            name for name, value in named.items() if not torch.equal(whole(value.detach()), before[name])
        ),
        "average": [float(whole(value.detach()).sum()) for value in (run.state.average or {}).values()],
        "biases": [float(value) for value in buffers],
        "counters": [run.state.step, run.state.consumed, run.state.skipped, run.state.skipped_in_a_row],
        "broken": run.state.broken,
        "balance": {name: value.double() for name, value in run.state.method.state().items()},
        "seen": seen,
        "end": end,
        "agreed": agreed,
    }


def poisoned(
    value: Callable[[torch.Tensor], torch.Tensor], steps: tuple[int, ...], place: int
) -> Callable[[Run], None]:
    """Change the loss of a place of some steps."""

    def prepare(run: Run) -> None:
        plain = run.objective.forward

        def forward(batch: Any, plan: Any, **more: Any) -> BatchLoss:
            made = plain(batch, plan, **more)
            if not isinstance(plan, Plan) or plan.step not in steps or plan.place != place:
                return made
            return replace(made, terms={name: value(term) for name, term in made.terms.items()})

        run.objective.forward = forward  # type: ignore[method-assign]

    return prepare


@contextmanager
def broken(label: str) -> Iterator[None]:
    """No scene that is labelled so can be read."""
    read = ScenesSource.read

    def refuse(self: ScenesSource, index: int) -> Any:
        sample = read(self, index)
        if self.label == label:
            raise BrokenSample(sample.id, "is damaged")
        return sample

    ScenesSource.read = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        ScenesSource.read = read  # type: ignore[method-assign]


def stopping(at: int, ranks: tuple[int, ...], rank: int) -> Callable[[Run], None]:
    """Some of the processes are asked to stop when so many steps are done."""

    def prepare(run: Run) -> None:
        between = run._evaluate_and_save

        def evaluate_and_save(log: Any, stop: Any) -> None:
            if run.state.step == at and rank in ranks:
                os.kill(os.getpid(), signal.SIGTERM)
            between(log, stop)

        run._evaluate_and_save = evaluate_and_save  # type: ignore[method-assign]

    return prepare


def parity(condition: str, world: World, folder: Path) -> Any:
    tasks = READING if condition in ("expert_choice", IN_BATCHES) else TASKS
    more = {"moe__balance__bias_rate": 1e-3, "moe__balance__switch": 0.01} if condition == "token" else {}
    return trained(world, folder, recipe_of(tasks, steps=10, **routed(condition, **more)))


def balanced(method: str, world: World, folder: Path) -> Any:
    unmixed = {"sampling__mode": "unmixed"} if method == "tbgn" else {}
    tasks = ("colours", "captions", "retrieval")
    return trained(world, folder, recipe_of(tasks, steps=3, balance__method=method, balance__period=1, **unmixed))


def accumulated(world: World, folder: Path) -> Any:
    changes = {"sampling__tasks_per_step": 2, "optimiser__accumulate": 2, "candidates__sample": 20}
    return trained(world, folder, recipe_of(("words", "captions"), steps=3, **changes))


def with_broken(world: World, folder: Path) -> Any:
    """All pictures with colours are damaged: places without a batch, and steps in which a process has none."""
    with broken("colour"):
        recipe = recipe_of(("colours", "words"), steps=6, data__max_broken=1.0, **routed("task_specific"))
        return trained(world, folder, replace(recipe, sampling=replace(recipe.sampling, tasks_per_step=world.size)))


def too_many_broken(world: World, folder: Path) -> Any:
    with broken("colour"):
        return trained(world, folder, recipe_of(("colours", "words"), steps=6))


def bad_loss(value: Callable[[torch.Tensor], torch.Tensor], world: World, folder: Path) -> Any:
    return trained(world, folder, recipe_of(steps=4, **routed("attribute")), poisoned(value, (1, 2), 1))


def five_bad_losses(world: World, folder: Path) -> Any:
    nan = poisoned(lambda term: term * float("nan"), (1, 2, 3, 4, 5), 1)
    return trained(world, folder, recipe_of(("colours",), steps=8), nan)


def disk_full(world: World, folder: Path) -> Any:
    write = checkpoint.write

    def refuse(path: Path, *_: Any) -> None:
        raise UserError(f"{path.name}: could not be saved (No space left on device); free the disk")

    checkpoint.write = refuse
    try:
        return trained(world, folder, recipe_of(("colours",), steps=2))
    finally:
        checkpoint.write = write


def stopped(world: World, folder: Path) -> Any:
    """A signal to the last of the processes alone."""
    prepare = stopping(2, (world.size - 1,), world.rank)
    return trained(world, folder, recipe_of(("colours", "words"), steps=5), prepare)


def drifted(change: Callable[[Generalist], Tensor], recipe: Recipe, world: World, folder: Path) -> Any:
    """Before the save a weight changes in the last of the processes alone; `change` names it, by a model."""

    def prepare(run: Run) -> None:
        save = run._save_once

        def change_and_save() -> None:
            if world.rank == world.size - 1:
                with torch.no_grad():
                    change(run.state.model).add_(1e-6)
            save()

        run._save_once = change_and_save  # type: ignore[method-assign]

    return trained(world, folder, recipe, prepare)


def measured(world: World, folder: Path) -> Any:
    """Evaluations during training and of a finished run, over batches that are dealt."""
    changes = {"evaluation__every": 2, "evaluation__limit": 0, "evaluation__batch": 3, "steps": 2}
    tasks = ("colours", "relations", "words", "captions", "retrieval")
    trained(world, folder / "run", recipe_of(tasks, **changes))
    return evaluate(folder / "run", splits=("train", "val"), quiet=True, world=world)


def same_model_measured(world: World, folder: Path) -> Any:
    """The same weights, measured by any number of processes, which deal batches and chunks of candidates."""
    run, chunks = folder.parent / "measured-1" / "run", (split.CHUNK, retrieval._CHUNK)
    split.CHUNK, retrieval._CHUNK = 64, 4
    try:
        return evaluate(run, splits=("train", "val"), quiet=True, world=world)
    finally:
        split.CHUNK, retrieval._CHUNK = chunks


def refused(world: World, folder: Path) -> Any:
    lines = []
    for changes in (
        {"sampling__tasks_per_step": 1},
        {"interference__watch": True},
        {"device": "cpu:0"},
    ):
        try:
            prepare_run(recipe_of(**changes), folder, folder / "run", quiet=True, world=world)
            lines.append("")
        except UserError as error:
            lines.append(str(error))
    return lines


def going_on(world: World, folder: Path) -> Any:
    """Four processes make the first steps, two the next, one the last, in one folder; and one makes all in another."""
    recipe = recipe_of(steps=9, **routed("attribute"))
    stop = {4: 3, 2: 6}.get(world.size)
    prepare = (lambda run: None) if stop is None else stopping(stop, tuple(range(world.size)), world.rank)
    return trained(world, folder.parent / "going-on", recipe, prepare)


def exact(world: World, folder: Path) -> Any:
    """One step in float64, with candidates that all batches of it share."""
    changes = {
        "candidates__share": "step",
        "tasks__retrieval__negatives": "step",
        "sampling__tasks_per_step": 6,
        "optimiser__ema": 0.0,
    }
    recipe = recipe_of(("colours", "words", "retrieval"), **changes, **routed("attribute"))
    return gradients_of_step(world, folder, recipe)


def exact_balance(world: World, folder: Path) -> Any:
    """The same, of chunks of a set that several processes encode, with losses that balance the experts on the way."""
    chunk, step_candidates._CHUNK = step_candidates._CHUNK, 100
    try:
        changes = {"candidates__share": "step", "moe__balance__switch": 0.5, "optimiser__ema": 0.0}
        return gradients_of_step(world, folder, recipe_of(("colours", "words"), **changes, **routed("token")))
    finally:
        step_candidates._CHUNK = chunk


IN_TWO: Mapping[str, Scenario] = {
    **{f"parity {condition}": partial(parity, condition) for condition in CONDITIONS},
    **{f"balance {method}": partial(balanced, method) for method in METHODS},
    "accumulated": accumulated,
    "broken": with_broken,
    "too many broken": too_many_broken,
    "nan": partial(bad_loss, lambda term: term * float("nan")),
    "infinite": partial(bad_loss, lambda term: term + float("inf")),
    "five nan": five_bad_losses,
    "disk full": disk_full,
    "stopped": stopped,
    "drifted": partial(drifted, lambda model: model.head.linear.bias[3], recipe_of(("colours",), steps=2)),
    "measured": measured,
    "same model": same_model_measured,
    "refused": refused,
    "going on": going_on,
    "exact": exact,
    "exact balance": exact_balance,
}
IN_FOUR = {name: IN_TWO[name] for name in ("parity attribute", "broken", "same model", "going on", "exact")}


def every(scenarios: Mapping[str, Scenario], folder: Path, world: World) -> dict[str, Any]:
    return {
        name: scenario(world, folder / f"{name.replace(' ', '-')}-{world.size}") for name, scenario in scenarios.items()
    }
