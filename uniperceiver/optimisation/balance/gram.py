"""Methods that need nothing but the inner products of the tasks' gradients: surgery, the worst off, a bargain.

Shape suffixes: K tasks.
"""

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from torch import Tensor

from uniperceiver.optimisation.balance.method import Method
from uniperceiver.optimisation.balance.task_gradients import TaskGradients

_BARRIERS = 10.0 ** -np.arange(1, 11)
_RIDGE_CAGRAD = 1e-7
_RIDGE_NASH = 1e-4  # of a diagonal of 1: where gradients cancel, weights would grow without bound

# x_K -> value, gradient_K, hessian_KK
Problem = Callable[[np.ndarray], tuple[float, np.ndarray, np.ndarray]]


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
    gram_KK = gram_KK / scale + _RIDGE_CAGRAD * np.eye(count)
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
    cosines_KK = cosines_KK + _RIDGE_NASH * np.eye(len(lengths_K))

    def problem(x_K: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        image_K = cosines_KK @ x_K
        value = 0.5 * float(x_K @ image_K) - float(np.log(x_K).sum())
        return value, image_K - 1.0 / x_K, cosines_KK + np.diag(1.0 / x_K**2)

    x_K = minimised(problem, np.ones(len(lengths_K)), on_simplex=False)  # α_k ‖g_k‖
    weights_K[there] = x_K / x_K.sum() * norms_K.mean() / lengths_K
    return weights_K


def minimised(problem: Problem, start_K: np.ndarray, *, on_simplex: bool, steps: int = 100) -> np.ndarray:
    """x_K > 0 where a convex function is least, by damped Newton steps; with `on_simplex` Σ x stays as it is.

    A step is halved until all of x_K stays positive and the value falls as Armijo's rule wants, and the search ends
    where no step does.

    Args:
        start_K: positive.
    """
    x_K = start_K
    value, gradient_K, hessian_KK = problem(x_K)
    for _ in range(steps):
        direction_K = _direction(gradient_K, hessian_KK, on_simplex)
        slope = float(gradient_K @ direction_K)
        if slope > -1e-16 * max(1.0, abs(value)):
            break
        length = 1.0
        while length > 1e-10:
            trial_K = x_K + length * direction_K
            if (trial_K > 0).all():
                trial = problem(trial_K)
                if trial[0] <= value + 1e-4 * length * slope:
                    break
            length /= 2
        else:  # rounding: no step is better
            break
        x_K, (value, gradient_K, hessian_KK) = trial_K, trial
    return x_K


def _direction(gradient_K: np.ndarray, hessian_KK: np.ndarray, on_simplex: bool) -> np.ndarray:
    """−H⁻¹ g, or the same among the directions that add up to 0."""
    if not on_simplex:
        return np.linalg.solve(hessian_KK, -gradient_K)
    count = len(gradient_K)
    system = np.ones((count + 1, count + 1))
    system[:count, :count], system[count, count] = hessian_KK, 0.0
    return np.linalg.solve(system, np.append(-gradient_K, 0.0))[:count]
