"""Methods that need nothing but the inner products of the tasks' gradients: surgery, the worst off, a bargain.

Shape suffixes: K tasks.
"""

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from torch import Tensor

from uniperceiver.optimisation.balance.method import Method
from uniperceiver.optimisation.balance.task_gradients import TaskGradients

# The least eigenvalue of cosines, whose diagonal is 1: inner products in float32 may make them indefinite by some 1e-8,
# and where gradients cancel, weights would grow without bound.
_RIDGE = 1e-7
_CANCELLED = 1e-3  # of the mean length: a mean gradient that is shorter is lost in the rounding of inner products

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
    all gradients with ‖g − g_0‖ ≤ c ‖g_0‖. With one task drawn, g is its gradient; a gradient of 0 is no task's.
    It is solved for gradients of length 1, so it is as exact for short ones as for long ones (docs/balancing.md).

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
    norms_K = np.sqrt(np.diag(gram_KK))
    there = norms_K > 0
    mean_length = float(np.sqrt(max(mean_K @ gram_KK @ mean_K, 0.0)))
    if count == 1 or radius == 0 or mean_length <= _CANCELLED * norms_K.mean():
        return mean_K
    lengths_K = norms_K[there] / mean_length
    cosines_KK = _cosines(gram_KK[np.ix_(there, there)], norms_K[there])
    pull_K = furthest_pull(cosines_KK, cosines_KK @ lengths_K / count, lengths_K, radius)
    weights_K = mean_K.copy()
    weights_K[there] += pull_K / lengths_K
    # Of exactly opposed gradients of unequal length the mean may be better than what the ridge allows.
    gains_K, gains_of_mean_K = (gram_KK @ weights_K)[there], (gram_KK @ mean_K)[there]
    return weights_K if gains_K.min() >= gains_of_mean_K.min() else mean_K


def furthest_pull(cosines_KK: np.ndarray, towards_K: np.ndarray, lengths_K: np.ndarray, reach: float) -> np.ndarray:
    """y_K ≥ 0 for which the least g · g_k is largest, with g = g_0 + Σ y_k ĝ_k and ‖g − g_0‖ ≤ reach.

    For every task to gain λ, ĝ_k · g ≥ λ / ‖g_k‖, there is a shortest pull; its length grows with λ. Where the tasks
    that limit it stay the same its square is a quadratic in λ, so that the λ whose pull is as long as `reach` is solved
    for; then for the tasks that limit it there, until they are the same.

    Args:
        towards_K: ĝ_k · g_0, with ĝ_k = g_k / ‖g_k‖.
    """
    low, high = float((lengths_K * towards_K).min()), float((lengths_K * (towards_K + reach)).min())
    gain, pull_K = high, np.zeros(len(lengths_K))
    for _ in range(100):
        pull_K = shortest_pull(cosines_KK, gain / lengths_K - towards_K)
        length = float(np.sqrt(pull_K @ cosines_KK @ pull_K))
        if abs(length - reach) <= 1e-12 * reach or not low < high:
            break
        low, high = (low, gain) if length > reach else (gain, high)
        active = pull_K > 0
        inverse, limits = 1.0 / lengths_K[active], towards_K[active]
        by_gain, by_limit = np.linalg.solve(cosines_KK[np.ix_(active, active)], np.stack([inverse, limits], 1)).T
        a, b, c = inverse @ by_gain, inverse @ by_limit, limits @ by_limit - reach**2
        root = (b + np.sqrt(max(b * b - a * c, 0.0))) / a if active.any() else high
        gain = root if low < root < high else (low + high) / 2
    return pull_K * min(1.0, reach / max(length, 1e-300))


def shortest_pull(matrix_KK: np.ndarray, least_K: np.ndarray) -> np.ndarray:
    """y_K ≥ 0 with M y ≥ least_K for which yᵀ M y is least; M is positive definite.

    Non-negative least squares by active sets (Lawson & Hanson 1974, algorithm NNLS), for the normal equations.
    """
    y_K, active = np.zeros(len(least_K)), np.zeros(len(least_K), dtype=bool)
    for _ in range(10 * len(least_K)):
        missing_K = np.where(active, 0.0, least_K - matrix_KK @ y_K)
        if missing_K.max() <= 1e-13 * np.abs(least_K).max():
            break
        active[missing_K.argmax()] = True
        while active.any():
            solved_K = np.zeros(len(least_K))
            solved_K[active] = np.linalg.solve(matrix_KK[np.ix_(active, active)], least_K[active])
            low = active & (solved_K <= 0)
            if not low.any():
                y_K = solved_K
                break
            share = (y_K[low] / (y_K[low] - solved_K[low])).min()  # as far as all stay positive
            y_K = y_K + share * (solved_K - y_K)
            active &= ~low | (y_K > 1e-15 * y_K.max())
            y_K[~active] = 0.0
    return y_K


def _cosines(gram_KK: np.ndarray, norms_K: np.ndarray) -> np.ndarray:
    """Inner products of the gradients' directions; where they are nearly dependent with a ridge."""
    cosines_KK = gram_KK / np.outer(norms_K, norms_K)
    return cosines_KK + max(0.0, _RIDGE - float(np.linalg.eigvalsh(cosines_KK).min())) * np.eye(len(norms_K))


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
    cosines_KK = _cosines(gram_KK[np.ix_(there, there)], lengths_K)

    def problem(x_K: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        image_K = cosines_KK @ x_K
        value = 0.5 * float(x_K @ image_K) - float(np.log(x_K).sum())
        return value, image_K - 1.0 / x_K, cosines_KK + np.diag(1.0 / x_K**2)

    x_K = minimised(problem, np.ones(len(lengths_K)))  # α_k ‖g_k‖
    weights_K[there] = x_K / x_K.sum() * norms_K.mean() / lengths_K
    return weights_K


def minimised(problem: Problem, start_K: np.ndarray, *, steps: int = 100) -> np.ndarray:
    """x_K > 0 where a convex function is least, by damped Newton steps.

    A step is halved until all of x_K stays positive and the value falls as Armijo's rule wants, and the search ends
    where no step does.

    Args:
        start_K: positive.
    """
    x_K = start_K
    value, gradient_K, hessian_KK = problem(x_K)
    for _ in range(steps):
        direction_K = np.linalg.solve(hessian_KK, -gradient_K)
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
