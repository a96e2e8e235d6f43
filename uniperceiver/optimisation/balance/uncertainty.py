"""Weights that follow from how noisy each task is."""

import math
from collections.abc import Mapping

from torch import Tensor

from uniperceiver.config import TaskBalanceConfig
from uniperceiver.optimisation.balance.learnt import Learnt
from uniperceiver.optimisation.balance.method import Method, TaskFacts, Updated


class Uncertainty(Method):
    """Minimise Σ_k L_k / (2 exp(s_k)) + s_k / 2 over the weights of the model and over s.

    So w_k = 1 / (2 exp(s_k)), and s_k descends along ½ − L_k / (2 exp(s_k)), which is 0 where w_k = 1 / (2 L_k).
    s_k begins at −log 2, so w_k at 1.

    Source: Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses" (arXiv 1705.07115).
    """

    def __init__(self, tasks: Mapping[str, TaskFacts], config: TaskBalanceConfig, seed: int) -> None:
        super().__init__(tasks, config, seed)
        self._s = Learnt(dict.fromkeys(tasks, -math.log(2.0)), config.lr)

    def weights(self, losses: Mapping[str, float], step: int) -> dict[str, float]:
        return {task: 0.5 * math.exp(-s) for task, s in self._s.values.items()}

    def after_step(self, updated: Updated) -> None:
        weights = self.weights({}, 0)
        self._s.descend({task: 0.5 - weights[task] * loss for task, loss in updated.losses.items()})

    def shown(self) -> dict[str, float]:
        return self.weights({}, 0)

    def state(self) -> dict[str, Tensor]:
        return self._s.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._s.load(state)
