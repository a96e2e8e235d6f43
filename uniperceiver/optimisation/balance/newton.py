"""Newton's method for small convex problems with positive variables.

Shape suffixes: K tasks.
"""

from collections.abc import Callable

import numpy as np

# x_K -> value, gradient_K, hessian_KK
Problem = Callable[[np.ndarray], tuple[float, np.ndarray, np.ndarray]]


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
                found = problem(trial_K)
                if found[0] <= value + 1e-4 * length * slope:
                    break
            length /= 2
        else:  # rounding: no step is better
            break
        x_K, (value, gradient_K, hessian_KK) = trial_K, found
    return x_K


def _direction(gradient_K: np.ndarray, hessian_KK: np.ndarray, on_simplex: bool) -> np.ndarray:
    """−H⁻¹ g, or the same among the directions that add up to 0."""
    if not on_simplex:
        return np.linalg.solve(hessian_KK, -gradient_K)
    count = len(gradient_K)
    system = np.ones((count + 1, count + 1))
    system[:count, :count], system[count, count] = hessian_KK, 0.0
    return np.linalg.solve(system, np.append(-gradient_K, 0.0))[:count]
