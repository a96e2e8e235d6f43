"""One number per task, learnt by Adam."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

_BETAS, _EPS = (0.9, 0.999), 1e-8


class Learnt:
    """Numbers by task. Each has Adam moments on a clock of its own, which a step without its task leaves alone.

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
