"""PCGrad against the surgery on whole vectors; CAGrad against a search over the simplex and over the ball that it
maximises in; Nash-MTL against its equation and a search."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.balancing import conflicting, flat, gradients_of, method, vectors
from uniperceiver.optimisation.balance.gram import averse, bargained
from uniperceiver.streams import numpy_stream


def operated(vectors_KP: np.ndarray, seed: int, step: int) -> np.ndarray:
    """The mean of the vectors after surgery, as the paper's Algorithm 1 does it."""
    stream = numpy_stream(seed, "balance", step)
    results = []
    for mine in range(len(vectors_KP)):
        vector_P = vectors_KP[mine].copy()
        for other in stream.permutation(len(vectors_KP)):
            other_P = vectors_KP[other]
            if other != mine and vector_P @ other_P < 0:
                vector_P -= vector_P @ other_P / (other_P @ other_P) * other_P
        results.append(vector_P)
    return np.mean(results, axis=0)


@pytest.mark.parametrize("tasks", [2, 3, 4])
def test_pcgrad_is_the_surgery_of_the_paper(tasks: int) -> None:
    vectors_KP = conflicting(tasks)
    one = method("pcgrad", tasks, seed=5)
    for step in range(4):
        found = flat(one.combine(gradients_of(vectors_KP), step))
        np.testing.assert_allclose(found, operated(vectors_KP, 5, step), rtol=1e-9)
        assert not np.allclose(found, vectors_KP.mean(axis=0))


def test_pcgrads_order_is_drawn_by_seed_and_step() -> None:
    gradients = gradients_of(conflicting(4))
    results = {
        tuple(flat(method("pcgrad", 4, seed=seed).combine(gradients, step))) for seed in (0, 1) for step in (0, 1)
    }
    assert len(results) > 1


def test_after_pcgrad_two_tasks_no_longer_conflict() -> None:
    vectors_KP = conflicting(2)
    assert (vectors_KP @ flat(method("pcgrad", 2).combine(gradients_of(vectors_KP), 0)) >= -1e-12).all()


def test_without_a_conflict_pcgrad_is_the_mean() -> None:
    vectors_KP = np.abs(conflicting(3))
    np.testing.assert_allclose(flat(method("pcgrad").combine(gradients_of(vectors_KP), 0)), vectors_KP.mean(axis=0))


def test_a_gradient_of_zero_is_no_conflict() -> None:
    vectors_KP = conflicting(2)
    vectors_KP[1] = 0.0
    np.testing.assert_allclose(flat(method("pcgrad", 2).combine(gradients_of(vectors_KP), 0)), vectors_KP[0] / 2)


def value_of(w_K: np.ndarray, vectors_KP: np.ndarray, radius: float) -> float:
    """g_w · g_0 + c ‖g_0‖ ‖g_w‖."""
    mean_P, mixed_P = vectors_KP.mean(axis=0), w_K @ vectors_KP
    return float(mixed_P @ mean_P + radius * np.linalg.norm(mean_P) * np.linalg.norm(mixed_P))


def least(value: Callable[[float], float], steps: int = 90) -> float:
    """Where a convex function on 0..1 is least, by ternary search."""
    low, high = np.longdouble(0), np.longdouble(1)
    for _ in range(steps):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if value(left) < value(right) else (left, high)
    return (low + high) / 2


def searched(vectors_KP: np.ndarray, radius: float) -> np.ndarray:
    """The gradient of two or three tasks, by a search over the simplex that works on the vectors themselves."""
    vectors_KP = vectors_KP.astype(np.longdouble)

    def weights_at(first: float, second: float = 1.0) -> np.ndarray:
        return np.array([first, (1 - first) * second, (1 - first) * (1 - second)])[: len(vectors_KP)]

    def best_second(first: float) -> float:
        return least(lambda second: value_of(weights_at(first, second), vectors_KP, radius)) if inner else 1.0

    inner = len(vectors_KP) == 3
    first = least(
        lambda first: value_of(weights_at(first, best_second(first)), vectors_KP, radius), 60 if inner else 90
    )
    mixed_P, mean_P = weights_at(first, best_second(first)) @ vectors_KP, vectors_KP.mean(axis=0)
    return np.asarray(mean_P + radius * np.linalg.norm(mean_P) / np.linalg.norm(mixed_P) * mixed_P, np.float64)


UNEQUAL = [(1e-3, 1.0), (1.0, 1e3), (1e-3, 1e3), (30.0, 1e3), (1.0, 1.0)]


@pytest.mark.parametrize("lengths", UNEQUAL)
@pytest.mark.parametrize("seed", range(4))
def test_a_search_over_the_simplex_comes_to_the_same_gradient(seed: int, lengths: tuple[float, float]) -> None:
    vectors_KP = vectors(2, seed) * np.array(lengths)[:, None]
    expected_P = searched(vectors_KP, 0.5)
    mixed_P = averse(vectors_KP @ vectors_KP.T, 0.5) @ vectors_KP
    assert np.linalg.norm(mixed_P - expected_P) < 1e-6 * np.linalg.norm(expected_P)
    assert (vectors_KP @ mixed_P).min() == pytest.approx((vectors_KP @ expected_P).min(), rel=1e-4)


@pytest.mark.parametrize("lengths", [(1e-3, 1.0, 1e3), (1.0, 1.0, 1.0)])
def test_a_search_with_three_tasks_comes_to_the_same_gradient(lengths: tuple[float, float, float]) -> None:
    vectors_KP = conflicting(3) * np.array(lengths)[:, None]
    expected_P = searched(vectors_KP, 0.5)
    mixed_P = averse(vectors_KP @ vectors_KP.T, 0.5) @ vectors_KP
    assert np.linalg.norm(mixed_P - expected_P) < 1e-4 * np.linalg.norm(expected_P)


@pytest.mark.parametrize("tasks", [2, 3, 4, 6])
def test_no_gradient_in_the_ball_helps_the_worst_off_more(tasks: int) -> None:
    """Weak duality: min g · g_k over the ball never exceeds g_w · g_0 + c ‖g_0‖ ‖g_w‖ of any w; here they meet."""
    rng = np.random.default_rng(tasks)
    for radius in (0.1, 0.5, 0.9):
        for _ in range(40):
            vectors_KP = rng.standard_normal((tasks, 12)) + rng.uniform() * rng.standard_normal(12)
            vectors_KP *= 10.0 ** rng.uniform(-3, 3, (tasks, 1))
            weights_K = averse(vectors_KP @ vectors_KP.T, radius)
            mixed_P, mean_P, pull_K = weights_K @ vectors_KP, vectors_KP.mean(axis=0), weights_K - 1 / tasks
            reach = radius * np.linalg.norm(mean_P)
            assert np.linalg.norm(mixed_P - mean_P) == pytest.approx(reach, rel=1e-9)
            bound = value_of(pull_K / pull_K.sum(), vectors_KP, radius)
            shortest = np.linalg.norm(vectors_KP, axis=1).min()
            assert (vectors_KP @ mixed_P).min() == pytest.approx(bound, rel=1e-6, abs=1e-7 * shortest * reach)


def test_gradients_that_are_nearly_the_same_or_opposed_are_no_fault() -> None:
    one_P, noise_P = vectors(2, 5)
    for other_P in (one_P, one_P + 1e-9 * noise_P, -1e-3 * one_P, 0 * one_P):
        vectors_KP = np.stack([one_P, other_P, noise_P])
        mixed_P = averse(vectors_KP @ vectors_KP.T, 0.5) @ vectors_KP
        mean_P = vectors_KP.mean(axis=0)
        assert np.linalg.norm(mixed_P - mean_P) < 0.5001 * np.linalg.norm(mean_P)
        moved = vectors_KP if other_P.any() else vectors_KP[[0, 2]]
        assert (moved @ mixed_P).min() >= (moved @ mean_P).min() - 1e-12


@pytest.mark.parametrize(("tasks", "radius"), [(2, 0.4), (3, 0.5), (4, 0.9)])
def test_the_worst_off_task_gains_most_near_the_mean(tasks: int, radius: float) -> None:
    vectors_KP = conflicting(tasks)
    found_P = flat(method("cagrad", tasks, radius=radius).combine(gradients_of(vectors_KP), 0))
    mean_P = vectors_KP.mean(axis=0)
    reach = radius * np.linalg.norm(mean_P)
    assert np.linalg.norm(found_P - mean_P) == pytest.approx(reach, rel=1e-9)
    worst = (vectors_KP @ found_P).min()
    assert worst > (vectors_KP @ mean_P).min()
    rng = np.random.default_rng(0)
    for _ in range(2000):
        direction_P = rng.standard_normal(tasks) @ vectors_KP  # the best lies in the span of the gradients
        other_P = mean_P + reach * direction_P / np.linalg.norm(direction_P)
        assert (vectors_KP @ other_P).min() <= worst + 1e-5 * abs(worst) + 1e-6


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_cagrad_scales_with_the_gradients(scale: float) -> None:
    vectors_KP, one = conflicting(3), method("cagrad")
    small, large = (flat(one.combine(gradients_of(each), 0)) for each in (vectors_KP, scale * vectors_KP))
    np.testing.assert_allclose(scale * small, large, rtol=1e-5)


@pytest.mark.parametrize("case", ["one task", "radius 0", "zeros", "opposed"])
def test_where_there_is_nothing_to_choose_cagrad_is_the_mean(case: str) -> None:
    vectors_KP = {"one task": vectors(1), "zeros": np.zeros((3, 8)), "opposed": vectors(1) * [[1.0], [-1.0]]}.get(
        case, conflicting(3)
    )
    one = method("cagrad", radius=0.0 if case == "radius 0" else 0.5)
    np.testing.assert_allclose(flat(one.combine(gradients_of(vectors_KP), 0)), vectors_KP.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize("tasks", [1, 2, 3, 4])
def test_nash_solves_its_equation(tasks: int) -> None:
    vectors_KP = conflicting(tasks) if tasks > 1 else vectors(1)
    weights_K = bargained(vectors_KP @ vectors_KP.T)
    lengths_K = np.linalg.norm(vectors_KP, axis=1)
    assert (weights_K * lengths_K).sum() == pytest.approx(lengths_K.mean())
    assert weights_K.min() > 0
    # G^T G alpha = 1 / alpha, up to the scale of alpha: each task gains equally relative to its weight.
    gains_K = vectors_KP @ (weights_K @ vectors_KP) * weights_K
    np.testing.assert_allclose(gains_K / gains_K.mean(), 1.0, rtol=1e-6)
    found_P = flat(method("nash", tasks).combine(gradients_of(vectors_KP), 0))
    np.testing.assert_allclose(found_P, weights_K @ vectors_KP, rtol=1e-9)


def test_a_search_finds_no_better_bargain() -> None:
    vectors_KP = conflicting(2)
    weights_K = bargained(vectors_KP @ vectors_KP.T)
    found_P = weights_K @ vectors_KP
    bargain = np.log(vectors_KP @ found_P / np.linalg.norm(found_P)).sum()
    angles = np.linspace(0, 2 * np.pi, 4001)
    basis, _ = np.linalg.qr(vectors_KP.T)
    best = max(
        np.log(gains_K).sum()
        for angle in angles
        if ((gains_K := vectors_KP @ basis @ [np.cos(angle), np.sin(angle)]) > 0).all()
    )
    assert bargain == pytest.approx(best, abs=1e-3)


def test_lengths_of_gradients_do_not_matter_for_the_direction() -> None:
    vectors_KP = conflicting(3)
    found = [
        weights_K @ each
        for each in (vectors_KP, vectors_KP * [[1e3], [1.0], [1e-3]])
        for weights_K in [bargained(each @ each.T)]
    ]
    one_P, other_P = (each / np.linalg.norm(each) for each in found)
    np.testing.assert_allclose(one_P, other_P, atol=1e-6)


def test_a_task_without_a_gradient_takes_no_part() -> None:
    vectors_KP = np.vstack([conflicting(2), np.zeros((1, 8))])
    weights_K = bargained(vectors_KP @ vectors_KP.T)
    assert weights_K[2] == 0
    np.testing.assert_allclose(weights_K[:2] * 3 / 2, bargained(vectors_KP[:2] @ vectors_KP[:2].T))  # a mean of three
    assert (bargained(np.zeros((2, 2))) == 0).all()


def test_opposed_gradients_cancel() -> None:
    vectors_KP = np.vstack([vectors(1), -3 * vectors(1)])
    np.testing.assert_allclose(bargained(vectors_KP @ vectors_KP.T) @ vectors_KP, 0, atol=1e-9)
