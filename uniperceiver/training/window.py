"""What is logged of the steps between two log lines: mean losses, gradient norm, throughput."""

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from uniperceiver.data.mix import Plan
from uniperceiver.parallel.world import World
from uniperceiver.records import Batch
from uniperceiver.training.objective import TrainingObjective
from uniperceiver.training.step import StepReport
from uniperceiver.training.turns.figures import TurnFigures

Work = Sequence[tuple[Plan, Batch]]


class Window:
    """Collects the steps since the last log line.

    Args:
        objective: says which tasks are trained with sampled candidates, whose losses are not comparable, and gives the
            loss over all candidates, which is logged instead.
        world: the processes that make the steps.
        asks: whether one process may ask the model by itself; else there are losses of sampled candidates alone.
        turns: counts tokens, too; None: nobody does.
    """

    def __init__(
        self,
        objective: TrainingObjective,
        world: World | None = None,
        *,
        asks: bool = True,
        turns: TurnFigures | None = None,
    ) -> None:
        self._objective, self._world, self._asks, self._turns = objective, world or World(), asks, turns
        self._begin()

    def _begin(self) -> None:
        self._start = time.perf_counter()
        self._losses: defaultdict[str, list[Tensor]] = defaultdict(list)
        self._balance: defaultdict[str, list[Tensor]] = defaultdict(list)
        self._norms: list[float] = []
        self._samples = 0
        self._last: dict[str, tuple[Plan, Batch]] = {}  # the last batch of each task with sampled candidates

    def add(self, report: StepReport, work: Work, seconds: float = 0.0) -> None:
        """Take in a step, and how long it took."""
        if self._turns is not None:
            self._turns.add(work, report.tokens, seconds)
        self._samples += sum(len(batch.ids) for _, batch in work)
        if report.skipped:  # what is not finite has a line of its own
            return
        for task, losses in report.losses.items():
            self._losses[task] += losses
            self._balance[task] += report.balance.get(task, [])
        self._last |= {batch.task: (plan, batch) for plan, batch in work if self._objective.samples(plan)}
        self._norms.append(report.grad_norm)

    def take(self) -> dict[str, Any]:
        """TASK/loss of every task, grad_norm, samples_per_second and `TurnFigures.take`; the window starts anew.

        Where no step made an update, there is no loss, and grad_norm is NaN.

        TASK/balance_loss where losses balance the experts: their weighted sum, which is not part of TASK/loss.

        A task with sampled candidates has its mean as TASK/sampled_loss, and as TASK/loss that of its last batch over
        the whole vocabulary.
        """
        elapsed = time.perf_counter() - self._start
        losses, balance, samples, last = self._of_all()
        values: dict[str, Any] = {
            f"{task}/{'sampled_loss' if task in last else 'loss'}": losses[task] for task in losses
        }
        values |= {f"{task}/loss": loss for task, loss in self._whole_losses(last).items()}
        values |= {f"{task}/balance_loss": loss for task, loss in balance.items()}
        values["grad_norm"] = sum(self._norms) / len(self._norms) if self._norms else math.nan
        values["samples_per_second"] = samples / elapsed
        values |= {} if self._turns is None else self._turns.take(elapsed)
        self._begin()
        return values

    def _of_all(self) -> tuple[dict[str, float], dict[str, float], int, dict[str, list[int]]]:
        """Mean losses and balancing losses by task, samples, step and place of the last batches, of all processes."""
        last = {task: [plan.step, plan.place] for task, (plan, _) in self._last.items()}
        if self._world.size == 1:
            means = ({task: float(torch.stack(own).mean()) for task, own in kept.items() if own} for kept in self._kept)
            return *means, self._samples, last  # type: ignore[return-value]
        sums = [{task: [float(torch.stack(own).double().sum()), len(own)] for task, own in kept.items() if own}
                for kept in self._kept]  # fmt: skip
        parts = self._world.gather([*sums, self._samples, last])
        losses, balance = (_means(part[kind] for part in parts) for kind in (0, 1))
        for *_, others in parts:
            last |= {task: place for task, place in others.items() if place > last.get(task, [-1])}
        return losses, balance, sum(part[2] for part in parts), last

    @property
    def _kept(self) -> tuple[Mapping[str, list[Tensor]], Mapping[str, list[Tensor]]]:
        return self._losses, self._balance

    @torch.no_grad()
    def _whole_losses(self, last: Mapping[str, list[int]]) -> dict[str, float]:
        """The losses over the whole vocabulary of the last batches, which are where they were made."""
        if not self._asks:
            return {}
        own = {
            task: float(self._objective(batch, plan, random=False, whole_vocabulary=True).loss)
            for task, (plan, batch) in self._last.items()
            if last[task] == [plan.step, plan.place]
        }
        if self._world.size == 1 or not last:
            return own
        return {task: loss for losses in self._world.gather(own) for task, loss in losses.items()}


def _means(parts: Iterable[Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """The mean of each task, from sums and counts."""
    sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for part in parts:
        for task, (value, count) in part.items():
            sums[task] = [sums[task][0] + value, sums[task][1] + count]
    return {task: value / count for task, (value, count) in sums.items()}


def progress_note(values: Mapping[str, Any]) -> str:
    """What the console says of a log line: the mean loss of the tasks, and how fast it goes."""
    losses = [value for name, value in values.items() if name.endswith("/loss")]
    mean = sum(losses) / len(losses) if losses else math.nan
    tokens = f" · {values['tokens_per_second']:,.0f} tokens/s" if "tokens_per_second" in values else ""
    return f"loss {mean:.3f} · {values['samples_per_second']:.0f} samples/s{tokens}"
