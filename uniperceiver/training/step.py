"""One update of the shared parameters.

Shape suffixes: R read-outs, K candidates, V vocabulary.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from uniperceiver.config import OptimiserConfig, TaskBalanceConfig
from uniperceiver.data.mix import Plan
from uniperceiver.model.model import Generalist
from uniperceiver.optimisation.adamw import average_into
from uniperceiver.optimisation.balance.method import Fixed, Method, Updated
from uniperceiver.optimisation.balance.task_gradients import GradientKeeper, TaskGradients
from uniperceiver.records import Batch, Decision
from uniperceiver.training.processes.team import Team
from uniperceiver.training.turns.tokens import TokenCount


@dataclass(frozen=True, kw_only=True)
class BatchLoss:
    """The loss of a batch: the sum of its terms and of those that balance its experts."""

    terms: Mapping[str, Tensor]  # of the task
    factor: float = 1.0  # on the task's terms
    balance: Mapping[str, Tensor] = field(default_factory=dict)
    decisions: tuple[Decision, ...] = ()  # of the gates
    tokens: TokenCount | None = None  # None: they are not counted

    @property
    def loss(self) -> Tensor:
        """The sum of the task's terms, without `factor`."""
        return _sum(self.terms)


Objective = Callable[[Batch, Plan], BatchLoss]
# Of a batch: its task, and what its gradients are multiplied by beside the task's own `loss_weight`.
AfterBackward = Callable[[str, float], None]


@dataclass
class TrainState:
    """Everything that a checkpoint saves, and nothing else."""

    model: Generalist
    optimiser: torch.optim.Optimizer
    average: dict[str, Tensor] | None = None  # moving average of the parameters
    scaler: torch.amp.GradScaler | None = None  # only in float16
    method: Method = field(default_factory=lambda: Fixed({}, TaskBalanceConfig(), 0))  # how tasks share an update
    step: int = 0  # finished steps
    consumed: list[int] = field(default_factory=list)  # samples seen, per task
    skipped: int = 0  # steps without an update because something was not finite
    skipped_in_a_row: int = 0
    broken: dict[str, dict[str, str]] = field(default_factory=dict)  # task -> sample -> reason
    evaluated: int = -1  # the last step after which the validation splits were evaluated
    best: dict[str, Any] | None = None  # {"step", "score"} of the best evaluation

    @property
    def loss_scale(self) -> float:
        """What losses are multiplied by before the backward pass, so that float16 can hold their gradients."""
        return 1.0 if self.scaler is None else self.scaler.get_scale()


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What a step did."""

    # By task name:
    losses: defaultdict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))  # of each batch
    balance: defaultdict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))  # balancing losses
    decisions: defaultdict[str, list[Decision]] = field(default_factory=lambda: defaultdict(list))  # of all gates
    tokens: list[TokenCount | None] = field(default_factory=list)  # of each batch of this process, in order
    grad_norm: float = 0.0
    skipped: str | None = None  # why there was no update


def train_step(
    state: TrainState,
    work: Iterable[tuple[Plan, Batch]],
    objective: Objective,
    config: OptimiserConfig,
    share: float,
    after_backward: AfterBackward | None = None,
    team: Team | None = None,
) -> StepReport:
    """Add up the gradients of the batches, each times `share`, or combine those of the tasks, then update once.

    Batches that `accumulate` makes of one draw weigh as much as they have answers, so that they learn as one batch.

    A loss or gradient that is not finite leaves parameters, moments, average and the method's state as they were.

    Args:
        after_backward: called with the task of each batch whose gradients were just computed, and their factor.
        team: the processes that make the step, where `work` is what this one has of it; None: it has all.
    """
    work, team = list(work), team or Team()
    tasks = team.tasks(work)
    if not tasks:  # every sample of the step was broken
        state.step += 1
        return StepReport()
    report, gradients = _gradients(state, work, objective, share, config.accumulate, after_backward, team)
    losses = report.losses
    if state.scaler is not None:
        state.scaler.unscale_(state.optimiser)
    norm = float(team.clip(state.model, config.clip if state.method.clips else 0.0))
    bad_task = team.bad_task(losses, norm)
    reason = None
    if bad_task is not None:
        reason = f"loss of task {bad_task!r}"
    elif not math.isfinite(norm):
        reason = "gradient"
    if reason is None:

        @torch.no_grad()
        def losses_again() -> dict[str, float]:  # what is random in the batches is drawn as before
            return team.means(_losses_of((batch.task, objective(batch, plan)) for plan, batch in work))

        updated = Updated(losses=team.means(losses), again=losses_again, gradients=gradients)
        state.method.prepare(state.optimiser, dict.fromkeys(tasks))
        _update(state, config)
        state.method.after_step(updated)
    elif state.scaler is not None:
        state.scaler.update()  # sees the infinite gradient and lowers its scale
    _count(state, skipped=reason is not None, bad_loss=bad_task is not None)
    return replace(report, grad_norm=norm, skipped=reason)


def _count(state: TrainState, *, skipped: bool, bad_loss: bool) -> None:
    """Count the step that was made, and whether it had no update."""
    state.step += 1
    state.skipped += skipped
    # In float16 a gradient may overflow until the scale is low enough: that is no fault of loss or data.
    is_fault = bad_loss or state.loss_scale <= 1.0
    if not skipped:
        state.skipped_in_a_row = 0
    elif is_fault:
        state.skipped_in_a_row += 1


def _gradients(
    state: TrainState,
    work: Sequence[tuple[Plan, Batch]],
    objective: Objective,
    share: float,
    accumulate: int,
    after_backward: AfterBackward | None,
    team: Team,
) -> tuple[StepReport, TaskGradients | None]:
    """The gradients of all batches, in the parameters; and those of each task, where the method combines them."""
    state.optimiser.zero_grad(set_to_none=True)
    method, report, counts = state.method, StepReport(), Counter(team.tasks(work))
    keeper = GradientKeeper(state.model, counts) if method.needs_gradients else None
    share *= team.factor
    scale: Callable[[Tensor], Tensor] = (lambda loss: loss) if state.scaler is None else state.scaler.scale
    team.begin_candidates(work)
    made: Iterable[tuple[str, BatchLoss]] = (
        (batch.task, team.loss(objective, batch, plan, last=number == len(work)))
        for number, (plan, batch) in enumerate(work, start=1)
    )
    means: Mapping[str, float] = {}
    if method.needs_losses:
        made = list(made)
        means = team.means(_losses_of(made))
    weights = method.weights(means, state.step)
    for (task, batch_loss), relative in zip(made, team.weights(work, accumulate), strict=True):
        weight, part = weights.get(task, 1.0), (share if keeper is None else 1.0 / counts[task]) * relative
        loss = batch_loss.loss
        report.losses[task].append(loss.detach())
        report.tokens.append(batch_loss.tokens)
        scaled = loss * (batch_loss.factor * weight * part)
        if batch_loss.balance:
            balance = _sum(batch_loss.balance)
            report.balance[task].append(balance.detach())
            scaled = scaled + balance * part
        report.decisions[task].extend(batch_loss.decisions)
        with nullcontext() if keeper is None else keeper.of(task):
            scale(team.marked(scaled)).backward()
        if after_backward is not None:
            after_backward(task, weight * part * state.loss_scale)
    shares = {task: share * count if keeper is None else 1.0 for task, count in counts.items()}
    gradients_of = keeper.of if keeper is not None else lambda task: nullcontext()
    for task, decisions in team.end_candidates(work, gradients_of, scale, shares).items():
        report.decisions[task].extend(decisions)
    if keeper is not None:
        return report, _combine(state, keeper, team)
    team.finish(state.model, scale)
    return report, None


def _combine(state: TrainState, keeper: GradientKeeper, team: Team) -> TaskGradients:
    """Put one gradient out of those of the tasks into the parameters, as a backward pass would have left it."""
    scale = state.loss_scale
    gradients = keeper.gradients(scale)
    team.finish_tasks(state.model, gradients.by_task)
    # What is not finite must come to the eyes of the scaler and of the norm: their plain mean is not finite, too.
    combine = state.method.combine if gradients.finite else partial(Method.combine, state.method)
    keeper.put(combine(gradients, state.step), scale)
    return gradients


def _losses_of(made: Iterable[tuple[str, BatchLoss]]) -> dict[str, list[Tensor]]:
    losses: defaultdict[str, list[Tensor]] = defaultdict(list)
    for task, batch_loss in made:
        losses[task].append(batch_loss.loss.detach())
    return losses


def _sum(terms: Mapping[str, Tensor]) -> Tensor:
    return sum(terms.values(), start=torch.zeros(()).to(next(iter(terms.values()))))


def _update(state: TrainState, config: OptimiserConfig) -> None:
    """Change the weights, and their average, by the gradients in the parameters."""
    if state.scaler is None:
        state.optimiser.step()
    else:
        state.scaler.step(state.optimiser)
        state.scaler.update()
    state.model.weights_changed()
    if state.average is not None:
        # Warmed up, so that a short run's average does not keep the random start: at most (1 + n) / (10 + n).
        average_into(state.average, state.model, min(config.ema, (1 + state.step) / (10 + state.step)))
