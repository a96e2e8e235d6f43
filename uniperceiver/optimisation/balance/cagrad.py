"""Conflict-averse gradient: near the mean gradient, what helps the worst-off task most.

Shape suffixes: K tasks.
"""

from typing import ClassVar

import numpy as np
from torch import Tensor

from uniperceiver.optimisation.balance.method import Method
from uniperceiver.optimisation.balance.newton import minimised
from uniperceiver.optimisation.balance.task_gradients import TaskGradients

_BARRIERS = 10.0 ** -np.arange(1, 11)
_RIDGE = 1e-7


class CAGrad(Method):
    """g = g_0 + c ‖g_0‖ / ‖g_w‖ g_w, where w minimises g_w · g_0 + c ‖g_0‖ ‖g_w‖ over the simplex.

    g_0 is the mean of the tasks' gradients, g_w = Σ w_k g_k, c is `balance.radius`. g maximises the least g · g_k among
    all gradients with ‖g − g_0‖ ≤ c ‖g_0‖. With one task drawn, g is its gradient. Beside much longer gradients a short
    one is helped less than it could be; below a thousandth of their length it is left out of account.

    Source: Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning" (arXiv 2110.14048).
    """

    needs_gradients: ClassVar[bool] = True
    several_at_once: ClassVar[bool] = True

    def combine(self, gradients: TaskGradients, step: int) -> dict[str, Tensor]:
        weights_K = averse(gradients.gram_KK, self.config.radius)
        return gradients.mixed(dict(zip(gradients.tasks, weights_K.tolist(), strict=True)))


def averse(gram_KK: np.ndarray, radius: float) -> np.ndarray:
    """weights_K of the tasks' gradients in g."""
    count = len(gram_KK)
    mean_K = np.full(count, 1.0 / count)
    scale = float(np.trace(gram_KK)) / count
    if count == 1 or radius == 0 or scale == 0:
        return mean_K
    # Scaled, so that thresholds mean the same however long gradients are; no longer indefinite by rounding.
    gram_KK = gram_KK / scale + _RIDGE * np.eye(count)
    reach = radius * float(np.sqrt(max(mean_K @ gram_KK @ mean_K, 0.0)))
    w_K = worst_off(gram_KK, reach)
    length = float(np.sqrt(max(w_K @ gram_KK @ w_K, 0.0)))
    if length < 1e-3:  # the tasks' gradients cancel: there is no direction that helps all of them
        return mean_K
    return mean_K + reach / length * w_K


def worst_off(gram_KK: np.ndarray, reach: float) -> np.ndarray:
    """w_K on the simplex where g_w · g_0 + reach ‖g_w‖ is least: with a barrier −μ Σ log w_k, μ → 0."""
    count = len(gram_KK)
    towards_mean_K = gram_KK.mean(axis=1)
    w_K = np.full(count, 1.0 / count)
    for barrier in _BARRIERS:

        def problem(w_K: np.ndarray, barrier: float = barrier) -> tuple[float, np.ndarray, np.ndarray]:
            image_K = gram_KK @ w_K
            length = float(np.sqrt(w_K @ image_K + 1e-14))  # smooth where g_w = 0
            value = w_K @ towards_mean_K + reach * length - barrier * np.log(w_K).sum()
            gradient_K = towards_mean_K + reach * image_K / length - barrier / w_K
            curved_KK = reach * (gram_KK - np.outer(image_K, image_K) / length**2) / length
            return float(value), gradient_K, curved_KK + np.diag(barrier / w_K**2)

        w_K = minimised(problem, w_K, on_simplex=True)
    return w_K
