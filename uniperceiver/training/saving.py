"""WHAT A SAVE WRITES: the checkpoint of a step, and the run's `model` folder with whole weights."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from uniperceiver.atomic import remove
from uniperceiver.config import CheckpointConfig
from uniperceiver.errors import UserError
from uniperceiver.parallel.parts import Groups, gathered_by_first
from uniperceiver.parallel.world import World
from uniperceiver.training import checkpoint
from uniperceiver.training.processes.sharded import ShardedTraining
from uniperceiver.training.state import pack
from uniperceiver.training.step import TrainState

Export = Callable[[TrainState], None]


def whole_state(
    state: TrainState, sharded: ShardedTraining | None, gathered: Groups | None = None
) -> AbstractContextManager[TrainState]:
    """The state with whole weights, to be asked or exported; all processes enter together if none has them yet."""
    return nullcontext(state) if sharded is None else sharded.whole(state, gathered)


def save(
    root: Path,
    state: TrainState,
    config: CheckpointConfig,
    *,
    tasks: Sequence[str],
    facts: Mapping[str, Any],
    export: Export,
    world: World,
    sharded: ShardedTraining | None,
) -> None:
    """Write a checkpoint into `root`, remove those that are no longer kept, and export the model.

    All processes call it. Where each holds a part, each writes it; all else is written by the first.

    Args:
        facts: what is saved beside the state; those of the first process.
    """
    parts, counters = pack(state, tasks)
    counters["finite"] = not any(world.largest([not counters["finite"]]))
    counters |= facts
    folder = checkpoint.step_folder(root, state.step)
    if sharded is not None:
        checkpoint.write_parts(folder, parts, counters, world)
    weights = gathered_by_first({name: parts[name] for name in ("model", "average") if name in parts}, world)
    with world.together(UserError):
        if world.is_first:
            if sharded is None:
                checkpoint.write(folder, parts, counters)
            _tidy(root, state, config)
            with whole_state(state, sharded, weights) as whole:
                export(whole)


def export_whole(state: TrainState, export: Export, world: World, sharded: ShardedTraining | None) -> None:
    """Export the model, without a checkpoint."""
    with whole_state(state, sharded) as whole, world.together(UserError):
        if world.is_first:
            export(whole)


def _tidy(root: Path, state: TrainState, config: CheckpointConfig) -> None:
    """Remove the checkpoints that are no longer kept."""
    for path in checkpoint.list_checkpoints(root):
        if checkpoint.step_of(path) > state.step:
            remove(path)  # it was damaged at the start; it must not take the place of a good one
    best = state.best and checkpoint.step_folder(root, state.best["step"])
    checkpoint.rotate(root, config.keep, best or None)
