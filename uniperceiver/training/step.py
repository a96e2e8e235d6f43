"""One update of the shared parameters.

Shape suffixes: R read-outs, K candidates, V vocabulary.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from uniperceiver.config import OptimiserConfig
from uniperceiver.data.mix import Plan
from uniperceiver.model.model import Generalist
from uniperceiver.records import Batch, Decision
from uniperceiver.training.optimiser import average_into


@dataclass(frozen=True, kw_only=True)
class BatchLoss:
    """The loss of a batch: the sum of its terms and of those that balance its experts."""

    terms: Mapping[str, Tensor]  # of the task
    factor: float = 1.0  # on the task's terms
    balance: Mapping[str, Tensor] = field(default_factory=dict)
    decisions: tuple[Decision, ...] = ()  # of the gates


Objective = Callable[[Batch, Plan], BatchLoss]


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

    # By task name:
    losses: defaultdict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))  # of each batch
    balance: defaultdict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))  # balancing losses
    decisions: defaultdict[str, list[Decision]] = field(default_factory=lambda: defaultdict(list))  # of all gates
    grad_norm: float = 0.0
    skipped: str | None = None  # why there was no update


def train_step(
    state: TrainState, work: Iterable[tuple[Plan, Batch]], objective: Objective, config: OptimiserConfig, share: float
) -> StepReport:
    """Add up the gradients of the batches, each times `share`, then update once.

    A loss or gradient that is not finite leaves parameters, moments and average as they were.
    """
    report = _gradients(state, work, objective, share)
    losses = report.losses
    if not losses:  # every sample of the step was broken
        state.step += 1
        return report
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
    return replace(report, grad_norm=norm, skipped=reason)


def _gradients(state: TrainState, work: Iterable[tuple[Plan, Batch]], objective: Objective, share: float) -> StepReport:
    """The gradients of all batches, added up in the parameters."""
    state.optimiser.zero_grad(set_to_none=True)
    report = StepReport()
    for plan, batch in work:
        found = objective(batch, plan)
        loss = _sum(found.terms)
        report.losses[batch.task].append(loss.detach())
        scaled = loss * (found.factor * share)
        if found.balance:
            balance = _sum(found.balance)
            report.balance[batch.task].append(balance.detach())
            scaled = scaled + balance * share
        report.decisions[batch.task].extend(found.decisions)
        (scaled if state.scaler is None else state.scaler.scale(scaled)).backward()
    return report


def _sum(terms: Mapping[str, Tensor]) -> Tensor:
    return sum(terms.values(), start=torch.zeros(()).to(next(iter(terms.values()))))


def _clip(model: nn.Module, limit: float) -> Tensor:
    """The global gradient norm; gradients are scaled down to `limit` if that is positive and smaller."""
    trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm([each.grad for each in trained if each.grad is not None])
    if limit > 0 and bool(torch.isfinite(norm)):
        nn.utils.clip_grads_with_norm_(trained, limit, norm)
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
