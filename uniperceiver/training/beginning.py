"""HOW A RUN BEGINS: from nothing or from its newest checkpoint; and what it says of itself, then and at its end."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from uniperceiver.atomic import folder_to_fill, in_use, only_one
from uniperceiver.config import Recipe
from uniperceiver.data.mix import Mixture
from uniperceiver.errors import UserError
from uniperceiver.optimisation.adamw import learning_rate
from uniperceiver.parallel.world import World
from uniperceiver.training import checkpoint
from uniperceiver.training.data_facts import changes_of_data
from uniperceiver.training.log import RunLog
from uniperceiver.training.state import held_like, unpack
from uniperceiver.training.step import TrainState

_BUSY = "{}: another process is training in this folder; wait for it, or use --out"
_SHOWN = 10  # tasks of the first line


def introduction(
    state: TrainState, recipe: Recipe, mixture: Mixture, folder: Path, processes: int, computes_in: str
) -> str:
    """What is trained on what, where, in which type, and where it is written down."""
    sets = [f"{training.task.name} ({len(training.source):,} samples)" for training in mixture.sets]
    more = f" and {len(sets) - _SHOWN} more tasks" if len(sets) > _SHOWN else ""
    sizes = [(value.numel(), value.requires_grad) for value in state.model.parameters()]
    count, trained = sum(size for size, _ in sizes), sum(size for size, is_trained in sizes if is_trained)
    part = f"{trained / 1e6:.2f} M of {count / 1e6:.2f} M" if trained < count else f"{count / 1e6:.2f} M"
    device = next(state.model.parameters()).device
    where = f"{device}, {torch.get_num_threads()} threads" if device.type == "cpu" else str(device)
    where += f", {processes} processes" if processes > 1 else ""
    where += f", {computes_in}"
    return (
        f"training {', '.join(sets[:_SHOWN])}{more}: {part} parameters on {where}, {recipe.steps:,} steps; "
        f"log: {folder / 'log.jsonl'}"
    )


def other_steps(step: int, before: int | None, recipe: Recipe) -> str:
    """What it means that the recipe had `before` steps when the checkpoint was written; empty where nothing."""
    if step > recipe.steps:
        return f", more than the recipe's {recipe.steps:,}: nothing is trained, and figures are of that step"
    was, rate = (learning_rate(step, steps, recipe.optimiser) for steps in (before or recipe.steps, recipe.steps))
    if step == recipe.steps or was == rate:
        return ""
    return (
        f"; steps was {before:,} and is {recipe.steps:,}, so the learning rate jumps from {was:.2g} to {rate:.2g}, and "
        "the run is not one that had so many steps from the start"
    )


def say_best(best: Mapping[str, Any] | None, step: int, by: str, folder: Path, log: RunLog) -> None:
    """Say where the model of the last step is not the best.

    Args:
        by: what checkpoints are compared by.
    """
    if best is None or best["step"] == step:
        return
    text = (
        f"the best checkpoint by {by} is that of step {best['step']}, not the last, which "
        f'is in {folder / "model"}; to use it: --step best, or load({str(folder)!r}, step="best")'
    )
    log.say(text, warning=True)
    log.line(step, "note", {"text": text, "best": best["step"]})


def newest_of_all(folder: Path, world: World) -> checkpoint.NewestCheckpoint:
    """The newest checkpoint of a run that can be gone on from; of several processes the first looks for it.

    Raises:
        UserError: there are checkpoints, but none is whole.
    """
    newest = checkpoint.NewestCheckpoint(path=None)
    with world.together(UserError):
        if world.is_first:
            newest = checkpoint.newest_valid(folder / "checkpoints")
    if world.size == 1:
        return newest
    path = world.from_first(lambda: None if newest.path is None else str(newest.path))
    return replace(newest, path=None if path is None else Path(path))


def go_on(
    state: TrainState,
    recipe: Recipe,
    newest: checkpoint.NewestCheckpoint,
    *,
    tasks: Sequence[str],
    folder: Path,
    data: Mapping[str, Any],
    tokenizer: str,
    code: Mapping[str, str],
) -> list[str]:
    """Put a checkpoint into the state. Notes for the log.

    Args:
        data: what is known of the data now; nothing in a process that does not speak.
        tokenizer: fingerprint of what the weights read and write.
        code: SHA-256 of the Python files that the run needs, by name.

    Raises:
        UserError: it belongs to other weights, tasks or texts, or cannot be read.
    """
    if newest.path is None:
        state.consumed = [0] * len(tasks)
        return []
    tensors, counters = checkpoint.read(newest.path, held_like(state))
    if counters.get("tokenizer", tokenizer) != tokenizer:
        raise UserError(
            f"{folder / 'tokenizer.json'}: does not belong to the weights of {newest.path}; restore the one "
            f"that was saved with them, {folder / 'model' / 'tokenizer.json'}"
        )
    unpack(state, tensors, counters, tasks, newest.path)
    changes = changes_of_data(counters.get("data", {}), data, str(newest.path))
    saved = counters.get("code", {})
    return [
        *(f"not used: {line}" for line in newest.skipped),
        *(f"the data have changed: {line}" for line in changes),
        *(
            f"{name} is not as it was when the run was saved: what it computes may be something else from here on"
            for name, sha256 in code.items()
            if saved.get(name, sha256) != sha256
        ),
        f"going on after step {state.step}{other_steps(state.step, counters.get('steps'), recipe)}",
    ]


def take_folder(folder: Path, stack: ExitStack) -> None:
    """Make sure that nobody else trains in the folder, until the end of the stack."""
    try:
        stack.enter_context(folder_to_fill(folder))
        alone = stack.enter_context(only_one(folder))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); use another --out") from error
    if not alone:
        raise UserError(_BUSY.format(folder))


def refuse_second(folder: Path) -> None:
    """Refuse a folder in which a run is being trained, before anything in it is changed.

    Raises:
        UserError: it is.
    """
    if in_use(folder):
        raise UserError(_BUSY.format(folder))
