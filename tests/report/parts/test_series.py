"""Curves as numbers: read, smoothed and thinned without losing what matters."""

import numpy as np
import pytest

from uniperceiver.report.parts.series import Series, read_series, smoothed, spread_out, thinned


def series(*values: float) -> Series:
    return Series(step_N=np.arange(len(values), dtype=float), value_N=np.array(values, dtype=float))


def test_only_lines_with_the_key_are_points_in_order_of_steps() -> None:
    log = [
        {"event": "train", "step": 3, "a": 1},
        {"event": "train", "step": 2, "a": "?"},
        {"event": "note", "step": 1, "a": 5},
    ]
    read = read_series([*log, {"event": "train", "step": 4}], "train", "a")
    np.testing.assert_array_equal(read.step_N, [2, 3])
    np.testing.assert_array_equal(read.value_N, [np.nan, 1])


def test_smoothing_is_the_weighted_mean_of_both_sides() -> None:
    value_N = np.random.default_rng(0).normal(size=12)
    value_N[4] = np.nan
    weight_NN = 0.5 ** (np.abs(np.arange(12)[:, None] - np.arange(12)) / 2.5) * np.isfinite(value_N)
    expected_N = weight_NN @ np.nan_to_num(value_N) / weight_NN.sum(1)
    expected_N[4] = np.nan
    np.testing.assert_allclose(smoothed(series(*value_N), 2.5).value_N, expected_N)


def test_smoothing_keeps_a_constant_and_takes_nothing() -> None:
    np.testing.assert_allclose(smoothed(series(*[3.0] * 9), 2).value_N, 3)
    assert len(smoothed(series(), 2)) == 0


@pytest.mark.parametrize("most", [3, 10, 400])
def test_thinning_keeps_ends_and_spikes(most: int) -> None:
    value_N = np.random.default_rng(0).normal(size=5000)
    value_N[[1234, 4000]] = 50, np.nan
    kept = thinned(series(*value_N), most)
    assert len(kept) <= most + 1
    assert {0, 4999} <= set(kept.step_N)
    assert np.nanmax(kept.value_N) == 50 or most == 3
    assert (np.diff(kept.step_N) > 0).all()


def test_thinning_stands_stretches_without_a_value() -> None:
    assert len(thinned(series(*[np.nan] * 900), 400)) <= 400
    assert len(spread_out(series(*[np.nan] * 900), 40)) == 0
    assert spread_out(series(*range(900)), 40).step_N[-1] == 899
