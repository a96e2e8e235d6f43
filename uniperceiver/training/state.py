"""TrainState as tensors and counters for a checkpoint, and back."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uniperceiver.errors import UserError
from uniperceiver.model.weights import first_misfit
from uniperceiver.optimisation.adamw import optimiser_tensors, restore_optimiser
from uniperceiver.parallel.parts import Groups, is_part, local, part_like
from uniperceiver.training.processes.shard_files import Like
from uniperceiver.training.step import TrainState


def pack(state: TrainState, tasks: Sequence[str]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Groups of tensors by name, and plain counters; `finite` says whether all weights are, of those that are here."""
    model = {name: value.detach() for name, value in state.model.state_dict().items()}
    groups = {"model": model, "optimiser": optimiser_tensors(state.model, state.optimiser)}
    if state.average is not None:
        groups["average"] = state.average
    if learnt := state.method.state():
        groups["balance"] = learnt
    counters = {
        "step": state.step,
        "consumed": dict(zip(tasks, state.consumed, strict=True)),
        "skipped": state.skipped,
        "skipped_in_a_row": state.skipped_in_a_row,
        "broken": state.broken,
        "evaluated": state.evaluated,
        "best": state.best,
        "scaler": None if state.scaler is None else state.scaler.state_dict(),
        "finite": all(bool(torch.isfinite(local(value)).all()) for value in model.values()),
    }
    return groups, counters


def unpack(state: TrainState, groups: Groups, counters: Mapping[str, Any], tasks: Sequence[str], where: Path) -> None:
    """Put a checkpoint's contents into the state.

    Raises:
        UserError: the checkpoint belongs to a model of another size or to other tasks.
    """
    held = state.model.state_dict()
    _check_fit(held, groups["model"], where)
    if set(counters["consumed"]) != set(tasks):
        raise UserError(
            f"{where}: was saved with the tasks {sorted(counters['consumed'])}, the recipe has {sorted(tasks)}; "
            "use the run's own recipe, or another --out"
        )
    state.model.load_state_dict({name: part_like(value, held[name]) for name, value in groups["model"].items()})
    restore_optimiser(state.model, state.optimiser, groups["optimiser"])
    if state.average is not None:
        for name, value in groups.get("average", groups["model"]).items():
            if name in state.average:
                state.average[name].copy_(part_like(value, state.average[name]))
    state.method.load(groups.get("balance", {}))
    if state.scaler is not None and counters["scaler"]:
        state.scaler.load_state_dict(counters["scaler"])
    state.step, state.evaluated, state.best = counters["step"], counters["evaluated"], counters["best"]
    state.consumed = [counters["consumed"][name] for name in tasks]
    state.skipped, state.skipped_in_a_row = counters["skipped"], counters["skipped_in_a_row"]
    state.broken = counters["broken"]


def held_like(state: TrainState) -> Like | None:
    """How this process holds what a checkpoint saves of the state; None: whole."""
    held = dict(state.model.named_parameters())
    if not any(map(is_part, held.values())):
        return None
    return lambda group, name: held.get(name.rsplit("/", 1)[-1] if group == "optimiser" else name)


def _check_fit(weights: Mapping[str, Tensor], saved: Mapping[str, Tensor], where: Path) -> None:
    misfit = first_misfit(weights, saved)
    if misfit is None:
        return
    if not misfit.in_both:
        raise UserError(f"{where}: does not fit the recipe's model: {misfit.name!r} is in only one of them")
    raise UserError(
        f"{where}: is of another size: {misfit.name!r} is {misfit.saved} there and {misfit.expected} in the recipe's "
        "model; use the run's own recipe, or another --out"
    )
