"""Learnt weights that bring the tasks' gradients to similar lengths.

Shape suffixes: K tasks.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from uniperceiver.config import TaskBalanceConfig
from uniperceiver.optimisation.balance.learnt import Learnt
from uniperceiver.optimisation.balance.method import Method, TaskFacts, Updated
from uniperceiver.optimisation.balance.task_gradients import TaskGradients

_LEAST = 1e-3  # of a learnt weight before they are scaled: a negative one would climb


class GradNorm(Method):
    """Learn w by descending along Σ_k | G_k − mean(G) r_k^α |, where mean(G) r_k^α counts as a constant.

    G_k = w_k ‖∇L_k‖, and r_k = (L_k / L_k(0)) / mean_i(L_i / L_i(0)) is how slowly task k learns; L_k(0) is its first
    loss. So dw_k = sign(G_k − mean(G) r_k^α) ‖∇L_k‖; afterwards w is scaled to a mean of 1 over all tasks. α is
    `balance.restoring`. Means and r are over the tasks drawn. The norm is that of all parameters: the gradients of all
    tasks are there anyway, and all are shared.

    Source: Chen et al., "GradNorm" (arXiv 1711.02257), which takes the norm over the last shared layer.
    """

    needs_gradients: ClassVar[bool] = True
    several_at_once: ClassVar[bool] = True

    def __init__(self, tasks: Mapping[str, TaskFacts], config: TaskBalanceConfig, seed: int) -> None:
        super().__init__(tasks, config, seed)
        self._w = Learnt(dict.fromkeys(tasks, 1.0), config.lr)
        self._first: dict[str, float] = {}  # losses

    def combine(self, gradients: TaskGradients, step: int) -> dict[str, Tensor]:
        return gradients.mixed({task: self._w.values[task] / len(gradients.tasks) for task in gradients.tasks})

    def after_step(self, updated: Updated) -> None:
        assert updated.gradients is not None
        for task, loss in updated.losses.items():
            self._first.setdefault(task, loss)
        tasks = updated.gradients.tasks
        if len(tasks) < 2:  # nothing to compare with
            return
        norms_K = updated.gradients.norms_K
        weighted_K = norms_K * [self._w.values[task] for task in tasks]
        rates_K = np.array([updated.losses[task] / max(self._first[task], 1e-8) for task in tasks])
        aims_K = weighted_K.mean() * (rates_K / max(rates_K.mean(), 1e-8)) ** self.config.restoring
        self._w.descend(dict(zip(tasks, (np.sign(weighted_K - aims_K) * norms_K).tolist(), strict=True)))
        self._scale()

    def _scale(self) -> None:
        values = {task: max(value, _LEAST) for task, value in self._w.values.items()}
        factor = len(values) / sum(values.values())
        self._w.values = {task: factor * value for task, value in values.items()}

    def shown(self) -> dict[str, float]:
        return dict(self._w.values)

    def state(self) -> dict[str, Tensor]:
        first = {f"first/{task}": torch.tensor(loss, dtype=torch.float64) for task, loss in self._first.items()}
        return self._w.state() | first

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._w.load(state)
        self._first = {task: float(state[f"first/{task}"]) for task in self.tasks if f"first/{task}" in state}
