"""One update of the shared parameters.

Shape suffixes: R read-outs, K candidates, V vocabulary.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from uniperceiver.config import OptimiserConfig
from uniperceiver.data.mix import Plan
from uniperceiver.model.model import Generalist
from uniperceiver.records import Batch
from uniperceiver.training.optimiser import average_into

# (batch, plan) -> the named terms whose sum is the loss of that batch, and the factor on it
Objective = Callable[[Batch, Plan], tuple[Mapping[str, Tensor], float]]


@dataclass
class TrainState:
    """Everything that a checkpoint saves, and nothing else."""

    model: Generalist
    optimiser: torch.optim.Optimizer
    average: dict[str, Tensor] | None = None  # moving average of the parameters
    scaler: torch.amp.GradScaler | None = None  # only in float16
    step: int = 0  # finished steps
    consumed: list[int] = field(default_factory=list)  # samples seen, per task
    skipped: int = 0  # steps without an update because something was not finite
    skipped_in_a_row: int = 0
    broken: dict[str, dict[str, str]] = field(default_factory=dict)  # task -> sample -> reason
    evaluated: int = -1  # the last step after which the validation splits were evaluated
    best: dict[str, Any] | None = None  # {"step", "score"} of the best evaluation


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What a step did."""

    losses: Mapping[str, list[Tensor]]  # task name -> loss of each of its batches
    grad_norm: float
    skipped: str | None = None  # why there was no update


def train_step(
    state: TrainState, work: Iterable[tuple[Plan, Batch]], objective: Objective, config: OptimiserConfig, share: float
) -> StepReport:
    """Add up the gradients of the batches, each times `share`, then update once.

    A loss or gradient that is not finite leaves parameters, moments and average as they were.
    """
    state.optimiser.zero_grad(set_to_none=True)
    losses: dict[str, list[Tensor]] = {}
    for plan, batch in work:
        terms, factor = objective(batch, plan)
        loss = sum(terms.values(), start=torch.zeros(()).to(next(iter(terms.values()))))
        losses.setdefault(batch.task, []).append(loss.detach())
        scaled = loss * (factor * share)
        (scaled if state.scaler is None else state.scaler.scale(scaled)).backward()
    if not losses:  # every sample of the step was broken
        state.step += 1
        return StepReport(losses=losses, grad_norm=0.0)
    bad = next((task for task, values in losses.items() if not all(map(torch.isfinite, values))), None)
    if state.scaler is not None:
        state.scaler.unscale_(state.optimiser)
    norm = float(_clip(state.model, config.clip))
    reason = f"loss of task {bad!r}" if bad else None if norm == norm and norm != float("inf") else "gradient"
    if reason is None:
        _update(state, config)
    elif state.scaler is not None:
        state.scaler.update()  # sees the infinite gradient and lowers its scale
    state.step += 1
    state.skipped += reason is not None
    # In float16 a gradient may overflow until the scale is low enough: that is no fault of loss or data.
    is_fault = bad is not None or state.scaler is None or state.scaler.get_scale() <= 1.0
    if reason is None:
        state.skipped_in_a_row = 0
    elif is_fault:
        state.skipped_in_a_row += 1
    return StepReport(losses=losses, grad_norm=norm, skipped=reason)


def _clip(model: nn.Module, limit: float) -> Tensor:
    """The global gradient norm; gradients are scaled down to `limit` if that is positive and smaller."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if limit > 0 and bool(torch.isfinite(norm)):
        nn.utils.clip_grads_with_norm_([each for each in model.parameters() if each.grad is not None], limit, norm)
    return norm


def _update(state: TrainState, config: OptimiserConfig) -> None:
    if state.scaler is None:
        state.optimiser.step()
    else:
        state.scaler.step(state.optimiser)
        state.scaler.update()
    if state.average is not None:
        # Warmed up, so that a short run's average does not keep the random start: at most (1 + n) / (10 + n).
        average_into(state.average, state.model, min(config.ema, (1 + state.step) / (10 + state.step)))
