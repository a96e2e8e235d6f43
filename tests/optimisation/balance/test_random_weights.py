"""Random weights."""

import numpy as np
import torch

from tests.balancing import method
from uniperceiver.streams import numpy_stream


def test_weights_are_a_softmax_of_normal_numbers() -> None:
    drawn = np.array([list(method("random_weights", seed=3).weights({}, step).values()) for step in range(500)])
    normal_K = torch.tensor(numpy_stream(3, "balance", 7).standard_normal(3))
    np.testing.assert_allclose(drawn[7], 3 * torch.softmax(normal_K, 0).numpy())
    np.testing.assert_allclose(drawn.sum(axis=1), 3.0)
    assert np.abs(drawn.mean(axis=0) - 1).max() < 0.1
    assert drawn.std(axis=0).min() > 0.4


def test_they_are_a_function_of_seed_and_step() -> None:
    one, other = method("random_weights", seed=1), method("random_weights", seed=2)
    assert one.weights({}, 5) == method("random_weights", seed=1).weights({}, 5)
    assert one.weights({}, 5) != one.weights({}, 6)
    assert one.weights({}, 5) != other.weights({}, 5)
