"""PCGrad against the surgery on whole vectors; CAGrad against a search over the simplex and over the ball that it
maximises in; Nash-MTL against its equation and a search."""

import itertools

import numpy as np
import pytest

from tests.balancing import conflicting, flat, gradients_of, method, vectors
from uniperceiver.optimisation.balance.gram import bargained, worst_off
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
    np.testing.assert_allclose(gains_K / gains_K.mean(), 1.0, rtol=2e-3)  # the ridge
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
