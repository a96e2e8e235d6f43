"""Nash-MTL, against its equation and a search."""

import numpy as np
import pytest

from tests.balancing import conflicting, flat, gradients_of, method, vectors
from uniperceiver.optimisation.balance.nash import bargained


@pytest.mark.parametrize("tasks", [1, 2, 3, 4])
def test_weights_solve_the_equation(tasks: int) -> None:
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
