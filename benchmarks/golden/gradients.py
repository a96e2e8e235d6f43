"""Losses and gradients of recorded training cases against ours.

Shape suffixes: D width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from benchmarks.golden.cases import Case
from benchmarks.golden.findings import Findings
from uniperceiver.model.model import Generalist
from uniperceiver.model.official.names import TYPE_VECTOR, our_name, our_shape
from uniperceiver.model.prompts import is_tuned
from uniperceiver.records import Batch
from uniperceiver.tasks.ask import ask, loss_terms
from uniperceiver.tasks.candidates import Candidates
from uniperceiver.tasks.task import Task

_SMOOTHED, _PLAIN = "LabelSmoothingCrossEntropy", ("CrossEntropy", "SoftTargetCrossEntropy")
_NOTHING = 1e-7  # a gradient of this norm is rounding
_PATCH_BIAS = "tokenizer.patches.project.bias"


def loss_of(case: Case, model: Generalist, task: Task, batch: Batch, candidates: Candidates) -> Mapping[str, Tensor]:
    """The terms of a case's loss, weighted as the original's configuration says."""
    settings = case.model["losses"][case.info["batch"]["task_info"]["task_name"]]
    kind = settings["NAMES"][0]
    if (kind != _SMOOTHED and kind not in _PLAIN) or settings.get("REDUCTION", "mean") != "mean":
        raise ValueError(f"loss {kind!r} with reduction {settings.get('REDUCTION')!r} is unknown")
    # The original takes a weight that is no float for 1 (OFFICIAL.md, oddity 14).
    weight = settings["LOSS_WEIGHT"] if isinstance(settings["LOSS_WEIGHT"], float) else 1.0
    smoothing = settings["LABELSMOOTHING"] if kind == _SMOOTHED else 0.0
    terms = loss_terms(task, ask(model, task, batch, candidates), batch.readout, candidates, smoothing)
    return {name: weight * term for name, term in terms.items()}


def recorded_losses(values: Mapping[str, float]) -> list[float]:
    """The terms of a recorded loss, without what has no gradient."""
    return [value for key, value in values.items() if key != "null_loss" and "Accuracy" not in key]


def compare_losses(findings: Findings, terms: Mapping[str, Tensor], recorded: Mapping[str, float]) -> None:
    """Each term, relative to what was recorded."""
    values = recorded_losses(recorded)
    if len(values) != len(terms):
        findings.reasons.append(f"losses: {len(values)} terms recorded, {len(terms)} computed")
    for term, value in zip(terms.values(), values, strict=False):
        findings.note("losses", abs(float(term.detach()) - value) / (abs(value) or 1.0))


def compare_training(
    findings: Findings, case: Case, model: Generalist, task: Task, batch: Batch, candidates: Candidates
) -> None:
    """The losses of a training case, then norm, sum and (where recorded) all entries of every gradient."""
    model.zero_grad()
    terms = loss_of(case, model, task, batch, candidates)
    compare_losses(findings, terms, case.info["losses"])
    torch.stack(list(terms.values())).sum().backward()
    gates = 2 if case.model["model"]["moe"] and not case.model["model"]["ffn_share_gate"] else 1
    for original, moments in case.info.get("grad_l2norm_and_sum", {}).items():
        _compare_gradient(findings, case, model, original, our_name(original, gates), moments)


def _compare_gradient(
    findings: Findings, case: Case, model: Generalist, original: str, name: str | None, moments: list[float] | None
) -> None:
    if original == TYPE_VECTOR and moments is not None:
        name = _PATCH_BIAS  # into which the vector was added: their gradients are the same
    parameter = dict(model.named_parameters()).get(name or "")
    norm = 0.0 if parameter is None or parameter.grad is None else float(parameter.grad.norm())
    is_frozen = parameter is None or not parameter.requires_grad
    is_frozen = is_frozen or (model.prompts is not None and not is_tuned(name or ""))
    if moments is None or moments[0] <= _NOTHING:
        if norm > 10 * _NOTHING and not is_frozen:
            findings.reasons.append(f"{original}: has a gradient, but none was recorded")
    elif parameter is None or parameter.grad is None or is_frozen:
        findings.reasons.append(f"{original}: has no gradient, but one was recorded")
    else:
        findings.note("gradients", abs(norm - moments[0]) / moments[0])
        # |sum of differences| <= sqrt(entries) * norm of the differences, so this is an error of the norm's kind.
        size = moments[0] * parameter.numel() ** 0.5
        findings.note("gradients", abs(float(parameter.grad.sum()) - moments[1]) / size)
        if (recorded := case.tensors.get(f"grad.{original}")) is not None:
            recorded = recorded[0] if original == TYPE_VECTOR else our_shape(original, recorded)
            findings.compare("gradients", f"grad.{original}", parameter.grad, recorded)
