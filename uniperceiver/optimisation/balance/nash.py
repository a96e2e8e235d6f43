"""Nash-MTL: the gradient that tasks would agree on if they bargained.

Shape suffixes: K tasks.
"""

from typing import ClassVar

import numpy as np
from torch import Tensor

from uniperceiver.optimisation.balance.method import Method
from uniperceiver.optimisation.balance.newton import minimised
from uniperceiver.optimisation.balance.task_gradients import TaskGradients

_RIDGE = 1e-4  # of a diagonal of 1: where gradients cancel, weights would grow without bound


class Nash(Method):
    """g = Σ α_k g_k, where Gᵀ G α = 1 / α: the α > 0 that minimises ½ αᵀ Gᵀ G α − Σ log α_k.

    The problem is strictly convex. It is solved for gradients of length 1, as α_k ‖g_k‖ does not depend on the lengths;
    α is then scaled so that Σ α_k ‖g_k‖ is the mean of the ‖g_k‖: g is a weighted mean of directions, times their mean
    length, and a task that has nearly converged does not stop the others. A task whose gradient is 0 takes no part.

    Source: Navon et al., "Multi-Task Learning as a Bargaining Game" (arXiv 2202.01017).
    """

    needs_gradients: ClassVar[bool] = True
    several_at_once: ClassVar[bool] = True

    def combine(self, gradients: TaskGradients, step: int) -> dict[str, Tensor]:
        weights_K = bargained(gradients.gram_KK)
        return gradients.mixed(dict(zip(gradients.tasks, weights_K.tolist(), strict=True)))


def bargained(gram_KK: np.ndarray) -> np.ndarray:
    """weights_K of the tasks' gradients."""
    norms_K = np.sqrt(np.diag(gram_KK))
    there = norms_K > 0
    weights_K = np.zeros(len(gram_KK))
    if not there.any():
        return weights_K
    lengths_K = norms_K[there]
    cosines_KK = gram_KK[np.ix_(there, there)] / np.outer(lengths_K, lengths_K)
    cosines_KK = cosines_KK + _RIDGE * np.eye(len(lengths_K))

    def problem(x_K: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        image_K = cosines_KK @ x_K
        value = 0.5 * float(x_K @ image_K) - float(np.log(x_K).sum())
        return value, image_K - 1.0 / x_K, cosines_KK + np.diag(1.0 / x_K**2)

    x_K = minimised(problem, np.ones(len(lengths_K)), on_simplex=False)  # α_k ‖g_k‖
    weights_K[there] = x_K / x_K.sum() * norms_K.mean() / lengths_K
    return weights_K
