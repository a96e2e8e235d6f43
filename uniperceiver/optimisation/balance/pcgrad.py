"""Gradient surgery: conflicting parts of the tasks' gradients are removed.

Shape suffixes: K tasks.
"""

from typing import ClassVar

import numpy as np
from torch import Tensor

from uniperceiver.optimisation.balance.method import Method
from uniperceiver.optimisation.balance.task_gradients import TaskGradients


class PCGrad(Method):
    """For each task i and the others j in a random order: if g_i · g_j < 0, g_i ← g_i − (g_i · g_j) / ‖g_j‖² g_j.

    g_j is the other's gradient as it came; the result is the mean of the new g_i. All of them are sums of the old ones,
    so only their weights are computed, from inner products.

    Source: Yu et al., "Gradient Surgery for Multi-Task Learning" (arXiv 2001.06782), which takes the sum.
    """

    needs_gradients: ClassVar[bool] = True
    several_at_once: ClassVar[bool] = True

    def combine(self, gradients: TaskGradients, step: int) -> dict[str, Tensor]:
        weights_K = surgery(gradients.gram_KK, self.stream(step))
        return gradients.mixed(dict(zip(gradients.tasks, weights_K.tolist(), strict=True)))


def surgery(gram_KK: np.ndarray, stream: np.random.Generator) -> np.ndarray:
    """weights_K of the tasks' gradients in PCGrad's mean."""
    count = len(gram_KK)
    total_K = np.zeros(count)
    for mine in range(count):
        weights_K = np.eye(count)[mine]  # of the gradients whose sum this task's is by now
        for other in stream.permutation(count):
            inner = weights_K @ gram_KK[:, other]
            if other != mine and inner < 0:  # so the other's norm is not 0
                weights_K[other] -= inner / gram_KK[other, other]
        total_K += weights_K
    return total_K / count
