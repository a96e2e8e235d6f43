"""Recorded training steps of the original, repeated by our optimiser, schedule, clipping and update."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.golden.cases import Case, batch_of
from benchmarks.golden.findings import Findings
from benchmarks.golden.gradients import loss_of, recorded_losses
from uniperceiver import OptimiserConfig
from uniperceiver.data.mix import Plan
from uniperceiver.model.model import Generalist
from uniperceiver.model.official.convert import convert_state
from uniperceiver.model.official.names import our_name, our_shape
from uniperceiver.model.official.variant import Choices
from uniperceiver.optimisation.adamw import adamw, learning_rate
from uniperceiver.records import Batch
from uniperceiver.tasks.task import TEMPERATURES
from uniperceiver.training.step import BatchLoss, StepReport, TrainState, train_step

NAME = "train_steps"
NOT_REPEATED = "recorded weights are all final ones: steps not repeated"
_WIDTH = "token_embed.embeddings.weight"
_HEADS = 4  # of every reduced model of the original's recordings

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Training steps as they were recorded."""

    folder: Path
    initial: Tensors
    final: Tensors
    batches: tuple[Tensors, ...]  # of each step
    description: dict[str, Any]  # as model.json: heads, special tokens, losses, temperatures
    config: OptimiserConfig
    iterations: int  # of the schedule
    steps: tuple[dict[str, Any], ...]  # learning rate, losses, gradient norm, description of the batch
    decays: dict[str, float]  # weight decay of each parameter


def findings_of_steps(folder: Path, beside: Sequence[Mapping[str, Any]] = ()) -> Findings:
    """The largest errors of losses, gradient norms, learning rates and final parameters of the recorded steps.

    A recording whose initial weights are its final ones (they were stored by reference) cannot be repeated, nor can the
    initial ones be computed: several lead to the same end. Then only learning rates and weight decays are compared.

    Args:
        beside: model.json of folders beside this one; one of the same size tells the number of heads.
    """
    recording, findings = read_recording(folder, beside), Findings()
    _compare_settings(findings, recording)
    if not starts_elsewhere(recording):
        findings.remarks.append(NOT_REPEATED)
        return findings
    model, reports = train(recording)
    for report, recorded in zip(reports, recording.steps, strict=True):
        (loss,), expected = report.losses.values(), sum(recorded_losses(recorded["losses"]))
        findings.note("losses", abs(float(loss[0]) - expected) / (abs(expected) or 1.0))
        norm = recorded["grad_norm_before_clip"]
        findings.note("gradients", abs(report.grad_norm - norm) / (norm or 1.0))
    now = model.state_dict()
    for original, theirs_now in recording.final.items():
        if (name := our_name(original, _gates(recording))) in now:
            findings.compare("parameters", original, now[name], our_shape(original, theirs_now))
    return findings


def read_recording(folder: Path, beside: Sequence[Mapping[str, Any]]) -> Recording:
    """What lies in a folder of training steps."""
    info, tensors = json.loads((folder / f"{NAME}.json").read_text()), load_file(folder / f"{NAME}.safetensors")
    initial, optimiser = _part(tensors, "init."), info["optimizer"]
    return Recording(
        folder=folder,
        initial=initial,
        final=_part(tensors, "final."),
        batches=tuple(_part(tensors, f"step{step}.") for step in range(len(info["steps"]))),
        description={**_describe(info, initial, beside), "losses": info["losses"], "temp_name": info["temp_name"]},
        config=OptimiserConfig(
            lr=optimiser["base_lr"],
            min_lr=optimiser["min_lr"],
            warmup=optimiser["warmup"],
            weight_decay=max(optimiser["weight_decay"].values()),
            betas=tuple(optimiser["betas"]),
            eps=optimiser["eps"],
            clip=optimiser["clip_norm"],
        ),
        iterations=optimiser["max_iter"],
        steps=tuple(info["steps"]),
        decays=optimiser["weight_decay"],
    )


def _describe(info: dict[str, Any], state: Tensors, beside: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Heads and special tokens: recorded, of a model of the same size beside it, or as in all reduced models."""
    words, width = state[_WIDTH].shape
    for description in (info, *beside):
        if "model" in description and (description["model"]["vocab"], description["model"]["dim"]) == (words, width):
            return {"model": dict(description["model"]), "special_tokens": dict(description["special_tokens"])}
    special = {"<|endoftext|>": words - 4, "<|spe|>": words - 1}
    return {"model": {"heads": _HEADS, "vocab": words, "ffn_share_gate": True}, "special_tokens": special}


def starts_elsewhere(recording: Recording) -> bool:
    """Whether the recorded initial weights differ from the final ones at all."""
    initial, final = recording.initial, recording.final
    return any(not torch.equal(initial[name], tensor) for name, tensor in final.items() if name in initial)


def train(recording: Recording) -> tuple[Generalist, list[StepReport]]:
    """The model after all steps, and what they were like."""
    model, config = _model(recording), recording.config
    state = TrainState(model=model, optimiser=adamw(model, config))
    reports = []
    for step, tensors in enumerate(recording.batches):
        case = Case(
            folder=recording.folder,
            name=NAME,
            tensors=dict(tensors),
            info=recording.steps[step],
            model=recording.description,
        )
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate(step, recording.iterations, config)
        reports.append(_step(state, case, config))
    return model, reports


def _model(recording: Recording) -> Generalist:
    size, special = recording.description["model"], recording.description["special_tokens"]
    return convert_state(
        {name: tensor.clone() for name, tensor in recording.initial.items()},
        Choices(
            heads=size["heads"],
            positions="table",
            ffn_gates="shared" if _gates(recording) == 1 else "own",
            type_vector="add" if size.get("add_type_embed") else "folded",
        ),
        end=special["<|endoftext|>"],
        answer=special["<|spe|>"],
        temperatures=TEMPERATURES,
        where=str(recording.folder),
    ).model


def _gates(recording: Recording) -> int:
    """Gates of an FFN."""
    size = recording.description["model"]
    return 1 if size["ffn_share_gate"] or not size.get("moe", True) else 2


def _compare_settings(findings: Findings, recording: Recording) -> None:
    """Learning rates, and whether our optimiser decays just what the original's did, and by as much."""
    config, model = recording.config, _model(recording)
    for step, recorded in enumerate(recording.steps):
        difference = learning_rate(step, recording.iterations, config) - recorded["lr"]
        findings.note("learning rates", abs(difference) / config.lr)
    decay_of = {
        id(parameter): group["weight_decay"]
        for group in adamw(model, config).param_groups
        for parameter in group["params"]
    }
    decays = {name: decay_of[id(parameter)] for name, parameter in model.named_parameters() if parameter.requires_grad}
    for original, recorded_decay in recording.decays.items():
        if (name := our_name(original, _gates(recording))) in decays:
            findings.note("weight decays", abs(decays[name] - recorded_decay))


def _step(state: TrainState, case: Case, config: OptimiserConfig) -> StepReport:
    """One update by the function that training uses."""
    task, batch, candidates = batch_of(case)
    plan = Plan(step=state.step, place=0, index=0, start=0, count=len(batch.ids), stage=0)

    def objective(batch: Batch, plan: Plan) -> BatchLoss:
        return BatchLoss(terms=loss_of(case, state.model, task, batch, candidates))

    return train_step(state, [(plan, batch)], objective, config, 1.0)


def _part(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
