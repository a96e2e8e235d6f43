"""CAGrad, against a search over the simplex and over the ball that it maximises in."""

import itertools

import numpy as np
import pytest

from tests.balancing import conflicting, flat, gradients_of, method, vectors
from uniperceiver.optimisation.balance.cagrad import worst_off


def value_of(w_K: np.ndarray, vectors_KP: np.ndarray, radius: float) -> float:
    """g_w · g_0 + c ‖g_0‖ ‖g_w‖."""
    mean_P, mixed_P = vectors_KP.mean(axis=0), w_K @ vectors_KP
    return float(mixed_P @ mean_P + radius * np.linalg.norm(mean_P) * np.linalg.norm(mixed_P))


@pytest.mark.parametrize("seed", range(6))
def test_no_point_of_the_simplex_is_better(seed: int) -> None:
    vectors_KP = vectors(3, seed)
    reach = 0.5 * float(np.linalg.norm(vectors_KP.mean(axis=0)))
    found_K = worst_off(vectors_KP @ vectors_KP.T, reach)
    assert found_K.min() > 0
    assert found_K.sum() == pytest.approx(1.0)
    grid = [np.array([a, b, 60 - a - b]) / 60 for a, b in itertools.product(range(61), range(61)) if a + b <= 60]
    values = [value_of(each, vectors_KP, 0.5) for each in grid]
    best = min(values)
    assert value_of(found_K, vectors_KP, 0.5) <= best + 1e-6 * abs(best)
    assert value_of(found_K, vectors_KP, 0.5) < np.median(values)


@pytest.mark.parametrize(("tasks", "radius"), [(2, 0.4), (3, 0.5), (4, 0.9)])
def test_the_worst_off_task_gains_most_near_the_mean(tasks: int, radius: float) -> None:
    vectors_KP = conflicting(tasks)
    found_P = flat(method("cagrad", tasks, radius=radius).combine(gradients_of(vectors_KP), 0))
    mean_P = vectors_KP.mean(axis=0)
    reach = radius * np.linalg.norm(mean_P)
    assert np.linalg.norm(found_P - mean_P) == pytest.approx(reach, rel=1e-4)  # a ridge against rounding
    worst = (vectors_KP @ found_P).min()
    assert worst > (vectors_KP @ mean_P).min()
    rng = np.random.default_rng(0)
    for _ in range(2000):
        direction_P = rng.standard_normal(tasks) @ vectors_KP  # the best lies in the span of the gradients
        other_P = mean_P + reach * direction_P / np.linalg.norm(direction_P)
        assert (vectors_KP @ other_P).min() <= worst + 1e-5 * abs(worst) + 1e-6


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_it_scales_with_the_gradients(scale: float) -> None:
    vectors_KP, one = conflicting(3), method("cagrad")
    small, large = (flat(one.combine(gradients_of(each), 0)) for each in (vectors_KP, scale * vectors_KP))
    np.testing.assert_allclose(scale * small, large, rtol=1e-5)


@pytest.mark.parametrize("case", ["one task", "radius 0", "zeros", "opposed"])
def test_where_there_is_nothing_to_choose_it_is_the_mean(case: str) -> None:
    vectors_KP = {"one task": vectors(1), "zeros": np.zeros((3, 8)), "opposed": vectors(1) * [[1.0], [-1.0]]}.get(
        case, conflicting(3)
    )
    one = method("cagrad", radius=0.0 if case == "radius 0" else 0.5)
    np.testing.assert_allclose(flat(one.combine(gradients_of(vectors_KP), 0)), vectors_KP.mean(axis=0), atol=1e-12)
