"""Weights of the tasks' losses that are learnt, each by Adam: from noise, lengths of gradients, or falling losses.

Shape suffixes: K tasks.
"""

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from uniperceiver.config import TaskBalanceConfig
from uniperceiver.optimisation.balance.method import Method, TaskFacts, Updated
from uniperceiver.optimisation.balance.task_gradients import TaskGradients

_BETAS, _EPS = (0.9, 0.999), 1e-8
_LEAST_WEIGHT = 1e-3  # of a learnt weight before they are scaled: a negative one would climb
_LEAST_LOSS = 1e-8  # of a loss: its logarithm is taken


class Learnt:
    """One number per task, learnt by Adam.

    Each has moments on a clock of its own, which a step without its task leaves alone.

    Args:
        start: the first value of each task.
        lr: Adam's learning rate.
        decay: weight decay, added to the gradient as in Adam (not AdamW).
    """

    def __init__(self, start: Mapping[str, float], lr: float, decay: float = 0.0) -> None:
        self.values = dict(start)
        self._lr, self._decay = lr, decay
        self._moments: dict[str, tuple[float, float, int]] = dict.fromkeys(start, (0.0, 0.0, 0))

    def descend(self, gradients: Mapping[str, float]) -> None:
        """A step of Adam for the tasks that have a gradient."""
        for task, gradient in gradients.items():
            first, second, count = self._moments[task]
            gradient += self._decay * self.values[task]
            first = _BETAS[0] * first + (1 - _BETAS[0]) * gradient
            second = _BETAS[1] * second + (1 - _BETAS[1]) * gradient**2
            count += 1
            length = math.sqrt(second / (1 - _BETAS[1] ** count)) + _EPS
            self.values[task] -= self._lr * first / (1 - _BETAS[0] ** count) / length
            self._moments[task] = (first, second, count)

    def state(self) -> dict[str, Tensor]:
        """Value, two moments and steps of each task, in float64."""
        return {
            f"learnt/{task}": torch.tensor([value, *self._moments[task]], dtype=torch.float64)
            for task, value in self.values.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""
        for task in self.values:
            value, first, second, count = state[f"learnt/{task}"].tolist()
            self.values[task], self._moments[task] = value, (first, second, int(count))


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
        values = {task: max(value, _LEAST_WEIGHT) for task, value in self._w.values.items()}
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
        slopes = {task: z / max(losses[task], _LEAST_LOSS) for task, z in self._z(losses).items()}
        scale = len(slopes) / sum(slopes.values())
        return {task: scale * slope for task, slope in slopes.items()}

    def after_step(self, updated: Updated) -> None:
        before, after, z = updated.losses, updated.again(), self._z(updated.losses)
        fallen = {
            task: math.log(max(before[task], _LEAST_LOSS)) - math.log(max(after[task], _LEAST_LOSS)) for task in before
        }
        if not all(map(math.isfinite, fallen.values())):  # the next step will say so
            return
        mean = sum(z[task] * fall for task, fall in fallen.items())
        self._xi.descend({task: z[task] * (fall - mean) for task, fall in fallen.items()})

    def _z(self, tasks: Iterable[str]) -> dict[str, float]:
        xi = {task: self._xi.values[task] for task in tasks}
        highest = max(xi.values())
        exponentials = {task: math.exp(value - highest) for task, value in xi.items()}
        total = sum(exponentials.values())
        return {task: exponential / total for task, exponential in exponentials.items()}

    def shown(self) -> dict[str, float]:
        return {task: len(self.tasks) * z for task, z in self._z(self.tasks).items()}

    def state(self) -> dict[str, Tensor]:
        return self._xi.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._xi.load(state)
