"""PCGrad, against the surgery on whole vectors."""

import numpy as np
import pytest

from tests.balancing import conflicting, flat, gradients_of, method
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
def test_it_is_the_surgery_of_the_paper(tasks: int) -> None:
    vectors_KP = conflicting(tasks)
    one = method("pcgrad", tasks, seed=5)
    for step in range(4):
        found = flat(one.combine(gradients_of(vectors_KP), step))
        np.testing.assert_allclose(found, operated(vectors_KP, 5, step), rtol=1e-9)
        assert not np.allclose(found, vectors_KP.mean(axis=0))


def test_the_order_is_drawn_by_seed_and_step() -> None:
    gradients = gradients_of(conflicting(4))
    results = {
        tuple(flat(method("pcgrad", 4, seed=seed).combine(gradients, step))) for seed in (0, 1) for step in (0, 1)
    }
    assert len(results) > 1


def test_two_tasks_no_longer_conflict() -> None:
    vectors_KP = conflicting(2)
    assert (vectors_KP @ flat(method("pcgrad", 2).combine(gradients_of(vectors_KP), 0)) >= -1e-12).all()


def test_without_a_conflict_it_is_the_mean() -> None:
    vectors_KP = np.abs(conflicting(3))
    np.testing.assert_allclose(flat(method("pcgrad").combine(gradients_of(vectors_KP), 0)), vectors_KP.mean(axis=0))


def test_a_gradient_of_zero_is_no_conflict() -> None:
    vectors_KP = conflicting(2)
    vectors_KP[1] = 0.0
    np.testing.assert_allclose(flat(method("pcgrad", 2).combine(gradients_of(vectors_KP), 0)), vectors_KP[0] / 2)
