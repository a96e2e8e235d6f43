"""Recorded training steps of the original, repeated by our optimiser, schedule, clipping and update."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.golden.cases import Case, batch_of
from benchmarks.golden.compare import Errors, error, loss_of, note
from uniperceiver.config import OptimiserConfig
from uniperceiver.data.mix import Plan
from uniperceiver.model.model import Generalist
from uniperceiver.model.official.convert import convert_state
from uniperceiver.model.official.names import our_name, our_shape
from uniperceiver.model.official.variant import Given
from uniperceiver.records import Batch
from uniperceiver.tasks.task import TEMPERATURES
from uniperceiver.training.optimiser import adamw, learning_rate
from uniperceiver.training.step import BatchLoss, StepReport, TrainState, train_step

NAME = "train_steps"


def errors_of_steps(folder: Path, beside: dict[str, Any]) -> Errors:
    """The largest errors of the losses, gradient norms and final parameters of the recorded steps.

    A recording whose initial weights are its final ones (they were stored by reference) cannot be repeated: then only
    learning rates and weight decays are compared.

    Args:
        beside: model.json of a folder with the same special tokens; the recording has none of its own.
    """
    info, tensors = json.loads((folder / f"{NAME}.json").read_text()), load_file(folder / f"{NAME}.safetensors")
    recorded, found = info["optimizer"], Errors()
    told = {**beside, "losses": info["losses"], "temp_name": info["temp_name"]}
    model, config = _start(_part(tensors, "init."), told, str(folder)), _settings(recorded)
    _decays(found, model, config, recorded["weight_decay"])
    for step, known in enumerate(info["steps"]):
        note(found, "learning rates", abs(learning_rate(step, recorded["max_iter"], config) - known["lr"]) / config.lr)
    if not starts_elsewhere(tensors):
        return found
    state = TrainState(model=model, optimiser=adamw(model, config))
    for step, known in enumerate(info["steps"]):
        case = Case(folder=folder, name=NAME, tensors=_part(tensors, f"step{step}."), info=known, model=told)
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate(step, recorded["max_iter"], config)
        report = _step(state, case, config)
        theirs = sum(value for key, value in known["losses"].items() if key != "null_loss" and "Accuracy" not in key)
        ours = float(next(iter(report.losses.values()))[0])
        note(found, "losses", abs(ours - theirs) / theirs)
        norm = known["grad_norm_before_clip"]
        note(found, "gradients", abs(report.grad_norm - norm) / norm)
    now = model.state_dict()
    for original, tensor in _part(tensors, "final.").items():
        if (name := our_name(original)) in now:
            note(found, "parameters", error(now[name], our_shape(original, tensor)))
    return found


def starts_elsewhere(tensors: dict[str, Tensor]) -> bool:
    """Whether the recorded initial weights differ from the final ones at all."""
    initial, final = _part(tensors, "init."), _part(tensors, "final.")
    return any(not torch.equal(initial[name], each) for name, each in final.items() if name in initial)


def _decays(found: Errors, model: Generalist, config: OptimiserConfig, recorded: dict[str, float]) -> None:
    """Whether our optimiser decays just what the original's did, and by as much."""
    decay_of = {
        id(parameter): group["weight_decay"]
        for group in adamw(model, config).param_groups
        for parameter in group["params"]
    }
    ours = {name: decay_of[id(each)] for name, each in model.named_parameters() if each.requires_grad}
    for original, theirs in recorded.items():
        if (name := our_name(original)) in ours:
            note(found, "weight decays", abs(ours[name] - theirs))


def _start(state: dict[str, Tensor], told: dict[str, Any], where: str) -> Generalist:
    special = told["special_tokens"]
    return convert_state(
        state,
        Given(heads=told["model"]["heads"], positions="table"),
        end=special["<|endoftext|>"],
        answer=special["<|spe|>"],
        temperatures=TEMPERATURES,
        where=where,
    ).model


def _settings(recorded: dict[str, Any]) -> OptimiserConfig:
    return OptimiserConfig(
        lr=recorded["base_lr"],
        min_lr=recorded["min_lr"],
        warmup=recorded["warmup"],
        weight_decay=max(recorded["weight_decay"].values()),
        betas=tuple(recorded["betas"]),
        eps=recorded["eps"],
        clip=recorded["clip_norm"],
    )


def _step(state: TrainState, case: Case, config: OptimiserConfig) -> StepReport:
    """One update by the function that training uses."""
    task, batch, candidates = batch_of(case)
    plan = Plan(step=state.step, place=0, index=0, start=0, count=len(batch.ids), late=False)

    def objective(batch: Batch, plan: Plan) -> BatchLoss:
        return BatchLoss(terms=loss_of(case, state.model, task, batch, candidates))

    return train_step(state, [(plan, batch)], objective, config, 1.0)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
