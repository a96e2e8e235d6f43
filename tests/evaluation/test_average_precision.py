"""Average precision, counted by hand."""

import numpy as np
import pytest

from uniperceiver.evaluation.metrics import average_precision, mean_average_precision


def test_average_precision() -> None:
    score_NK = np.array([[0.9, 1.0, 0.0], [0.8, 1.0, 0.0], [0.7, 1.0, 0.0], [0.6, 1.0, 0.0]])
    right_NK = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=bool)
    # First of two at rank 1, second at rank 3; all tied: the share; a class of none.
    value_K = average_precision(score_NK, right_NK)
    assert value_K[:2].tolist() == pytest.approx([(1 + 2 / 3) / 2, 0.25])
    assert np.isnan(value_K[2])
    assert mean_average_precision(score_NK, right_NK) == pytest.approx((5 / 6 + 0.25) / 2)
    assert np.isnan(mean_average_precision(score_NK, right_NK & False))
    weight_N = np.array([2, 0, 1, 3])
    rows = np.repeat(np.arange(4), weight_N)
    assert average_precision(score_NK, right_NK, weight_N)[0] == pytest.approx(
        average_precision(score_NK[rows], right_NK[rows])[0]
    )
