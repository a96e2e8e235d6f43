"""Fast adaptive multitask optimisation: all losses fall at similar rates, at the price of one more forward pass."""

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar

from torch import Tensor

from uniperceiver.config import TaskBalanceConfig
from uniperceiver.optimisation.balance.learnt import Learnt
from uniperceiver.optimisation.balance.method import Method, TaskFacts, Updated

_LEAST = 1e-8  # of a loss: its logarithm is taken


class FAMO(Method):
    """w_k = c z_k / L_k with z = softmax(ξ) and c = K / Σ_i z_i / L_i; ξ learns from how the losses changed.

    After the update, the losses L' of the same batches give δ_k = log L_k − log L'_k, and ξ descends by Adam along
    Jᵀ δ + γ ξ, J the Jacobian of softmax: d_k = z_k (δ_k − Σ z_i δ_i). So z grows for the task whose loss falls most
    slowly. Here the softmax and K are over the tasks drawn; the others' ξ stay. The lower bound of each loss is 0, so
    losses must stay positive, as all of this library are: one of 1e-8 or less counts as 1e-8. γ is `balance.decay`.

    Source: Liu et al., "FAMO: Fast Adaptive Multitask Optimization" (arXiv 2306.03792), where Σ w = 1.
    """

    needs_losses: ClassVar[bool] = True
    several_at_once: ClassVar[bool] = True

    def __init__(self, tasks: Mapping[str, TaskFacts], config: TaskBalanceConfig, seed: int) -> None:
        super().__init__(tasks, config, seed)
        self._xi = Learnt(dict.fromkeys(tasks, 0.0), config.lr, config.decay)

    def weights(self, losses: Mapping[str, float], step: int) -> dict[str, float]:
        slopes = {task: z / max(losses[task], _LEAST) for task, z in self._z(losses).items()}
        scale = len(slopes) / sum(slopes.values())
        return {task: scale * each for task, each in slopes.items()}

    def after_step(self, updated: Updated) -> None:
        before, after, z = updated.losses, updated.again(), self._z(updated.losses)
        fallen = {task: math.log(max(before[task], _LEAST)) - math.log(max(after[task], _LEAST)) for task in before}
        if not all(map(math.isfinite, fallen.values())):  # the next step will say so
            return
        mean = sum(z[task] * each for task, each in fallen.items())
        self._xi.descend({task: z[task] * (each - mean) for task, each in fallen.items()})

    def _z(self, tasks: Iterable[str]) -> dict[str, float]:
        xi = {task: self._xi.values[task] for task in tasks}
        highest = max(xi.values())
        exponentials = {task: math.exp(each - highest) for task, each in xi.items()}
        total = sum(exponentials.values())
        return {task: each / total for task, each in exponentials.items()}

    def shown(self) -> dict[str, float]:
        return {task: len(self.tasks) * z for task, z in self._z(self.tasks).items()}

    def state(self) -> dict[str, Tensor]:
        return self._xi.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._xi.load(state)
