"""Random weights, and dynamic weight average against NumPy on the list of all losses."""

import numpy as np
import pytest
import torch

from tests.balancing import NAMES, method, updated
from uniperceiver.streams import numpy_stream


def test_random_weights_are_a_softmax_of_normal_numbers() -> None:
    drawn = np.array([list(method("random_weights", seed=3).weights({}, step).values()) for step in range(500)])
    normal_K = torch.tensor(numpy_stream(3, "balance", 7).standard_normal(3))
    np.testing.assert_allclose(drawn[7], 3 * torch.softmax(normal_K, 0).numpy())
    np.testing.assert_allclose(drawn.sum(axis=1), 3.0)
    assert np.abs(drawn.mean(axis=0) - 1).max() < 0.1
    assert drawn.std(axis=0).min() > 0.4


def test_random_weights_are_a_function_of_seed_and_step() -> None:
    one, other = method("random_weights", seed=1), method("random_weights", seed=2)
    assert one.weights({}, 5) == method("random_weights", seed=1).weights({}, 5)
    assert one.weights({}, 5) != one.weights({}, 6)
    assert one.weights({}, 5) != other.weights({}, 5)


def test_dwa_follows_the_ratio_of_two_periods() -> None:
    one = method("dwa", period=3, temperature=0.5)
    losses_TK = np.random.default_rng(0).uniform(0.5, 2.0, (9, 3))
    for step, losses_K in enumerate(losses_TK):
        periods_TK = losses_TK[: step // 3 * 3].reshape(-1, 3, 3).mean(axis=1)
        ratios_K = periods_TK[-1] / periods_TK[-2] if len(periods_TK) > 1 else np.ones(3)
        expected_K = 3 * np.exp(ratios_K / 0.5) / np.exp(ratios_K / 0.5).sum()
        assert list(one.weights({}, step).values()) == pytest.approx(expected_K.tolist(), rel=1e-9)
        one.after_step(updated(losses_K.tolist()))
    assert max(one.shown().values()) > 1.2


def test_a_loss_that_falls_slowly_counts_more() -> None:
    one = method("dwa", tasks=2, period=1)
    for losses in ([1.0, 1.0], [0.9, 0.2]):
        one.after_step(updated(losses))
    assert one.shown()["reading"] > 1 > one.shown()["seeing"]


def test_a_task_that_is_drawn_rarely_waits_for_its_second_period() -> None:
    one = method("dwa", tasks=2, period=2)
    for losses in ([4.0, 8.0], [4.0], [3.0], [1.0], [1.0, 2.0], [1.0]):
        before = dict(one.weights({}, 0))
        one.after_step(updated(losses))
    # reading: means 4, 2, 1; seeing: 8, then 2 two periods later.
    assert before["seeing"] > 1  # its ratio was 1, that of reading 2 / 4
    exponentials = np.exp(np.array([1 / 2, 2 / 8]) / 2)
    expected = 2 * exponentials / exponentials.sum()
    assert one.shown() == pytest.approx(dict(zip(NAMES, expected, strict=False)))
