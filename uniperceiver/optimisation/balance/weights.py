"""Weights of the tasks' losses that are not learnt: drawn at random, or from how fast the losses fall."""

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass

import numpy as np
import torch
from torch import Tensor

from uniperceiver.config import TaskBalanceConfig
from uniperceiver.optimisation.balance.method import Method, TaskFacts, Updated


class RandomWeights(Method):
    """w = K softmax(z), z ~ N(0, I), drawn anew in each step over all K tasks of the run.

    Source: Lin et al., "Reasonable Effectiveness of Random Weighting" (arXiv 2111.10603), without the K.
    """

    def weights(self, losses: Mapping[str, float], step: int) -> dict[str, float]:
        exponentials = np.exp(self.stream(step).standard_normal(len(self.tasks)))
        weights = len(self.tasks) * exponentials / exponentials.sum()
        return dict(zip(self.tasks, weights.tolist(), strict=True))


@dataclass
class _PeriodMeans:
    """Losses of a task: of the running period, and the means of the last two periods in which it was drawn."""

    total: float = 0.0
    count: float = 0.0
    last: float = 0.0
    before: float = 0.0
    periods: float = 0.0  # finished, in which it was drawn


class DynamicWeightAverage(Method):
    """w_k(t) = K exp(r_k(t−1) / T) / Σ_i exp(r_i(t−1) / T), with r_k(t−1) = L_k(t−1) / L_k(t−2).

    L_k(t) is the mean loss of a period of `balance.period` steps; tasks that have not been drawn in two periods have
    r_k = 1. T is `balance.temperature`.

    Source: Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention" (arXiv 1803.10704), whose periods are
    epochs.
    """

    def __init__(self, tasks: Mapping[str, TaskFacts], config: TaskBalanceConfig, seed: int) -> None:
        super().__init__(tasks, config, seed)
        self._losses = {task: _PeriodMeans() for task in tasks}
        self._steps = 0  # of the running period

    def weights(self, losses: Mapping[str, float], step: int) -> dict[str, float]:
        ratios = {
            task: means.last / max(means.before, 1e-8) if means.periods > 1 else 1.0
            for task, means in self._losses.items()
        }
        highest = max(ratios.values())
        exponentials = {task: math.exp((ratio - highest) / self.config.temperature) for task, ratio in ratios.items()}
        scale = len(self.tasks) / sum(exponentials.values())
        return {task: scale * exponential for task, exponential in exponentials.items()}

    def after_step(self, updated: Updated) -> None:
        for task, loss in updated.losses.items():
            self._losses[task].total += loss
            self._losses[task].count += 1
        self._steps += 1
        if self._steps < self.config.period:
            return
        self._steps = 0
        for task, means in self._losses.items():
            if means.count:
                mean = means.total / means.count
                self._losses[task] = _PeriodMeans(last=mean, before=means.last, periods=means.periods + 1)

    def shown(self) -> dict[str, float]:
        return self.weights({}, 0)

    def state(self) -> dict[str, Tensor]:
        steps = {"steps": torch.tensor(self._steps)}
        return steps | {
            f"losses/{task}": torch.tensor(astuple(means), dtype=torch.float64) for task, means in self._losses.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._steps = int(state["steps"])
        self._losses = {task: _PeriodMeans(*state[f"losses/{task}"].tolist()) for task in self.tasks}
