"""What is logged of the steps between two log lines: mean losses, gradient norm, throughput."""

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from uniperceiver.data.mix import Plan
from uniperceiver.records import Batch
from uniperceiver.training.objective import TrainingObjective
from uniperceiver.training.step import StepReport

Work = Sequence[tuple[Plan, Batch]]


class Window:
    """Collects the steps since the last log line.

    Args:
        objective: says which tasks are trained with sampled candidates, whose losses are not comparable, and gives the
            loss over all candidates, which is logged instead.
    """

    def __init__(self, objective: TrainingObjective) -> None:
        self._objective = objective
        self._begin()

    def _begin(self) -> None:
        self._start = time.perf_counter()
        self._losses: defaultdict[str, list[Tensor]] = defaultdict(list)
        self._balance: defaultdict[str, list[Tensor]] = defaultdict(list)
        self._norms: list[float] = []
        self._samples = 0
        self._last: dict[str, tuple[Plan, Batch]] = {}  # the last batch of each task with sampled candidates

    def add(self, report: StepReport, work: Work) -> None:
        """Take in a step."""
        self._samples += sum(len(batch.ids) for _, batch in work)
        if report.skipped:  # what is not finite has a line of its own
            return
        for task, losses in report.losses.items():
            self._losses[task] += losses
            self._balance[task] += report.balance.get(task, [])
        self._last |= {batch.task: (plan, batch) for plan, batch in work if self._objective.samples(plan)}
        self._norms.append(report.grad_norm)

    def take(self) -> dict[str, Any]:
        """TASK/loss of every task, grad_norm and samples_per_second; the window starts anew.

        Where no step made an update, there is no loss, and grad_norm is NaN.

        TASK/balance_loss where losses balance the experts: their weighted sum, which is not part of TASK/loss.

        A task with sampled candidates has its mean as TASK/sampled_loss, and as TASK/loss that of its last batch over
        the whole vocabulary.
        """
        elapsed = time.perf_counter() - self._start
        values: dict[str, Any] = {}
        for task, losses in self._losses.items():
            name = "sampled_loss" if task in self._last else "loss"
            values[f"{task}/{name}"] = float(torch.stack(losses).mean())
        for task, (plan, batch) in self._last.items():
            with torch.no_grad():
                values[f"{task}/loss"] = float(self._objective(batch, plan, random=False, whole_vocabulary=True).loss)
        for task, balance in self._balance.items():
            if balance:
                values[f"{task}/balance_loss"] = float(torch.stack(balance).mean())
        values["grad_norm"] = sum(self._norms) / len(self._norms) if self._norms else math.nan
        values["samples_per_second"] = self._samples / elapsed
        self._begin()
        return values
