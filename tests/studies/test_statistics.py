"""Figures of several seeds, against numbers worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from uniperceiver.studies.records import SeedEstimate
from uniperceiver.studies.statistics import (
    delta_mtl,
    difference,
    estimate,
    gap_closed,
    gap_limit,
    is_gap,
    standard_error,
)


def test_standard_error_by_hand() -> None:
    # mean 3, squared deviations 4 + 1 + 9, 14 / (3 * 2)
    assert standard_error([1.0, 2.0, 6.0]) == pytest.approx(math.sqrt(14 / 6))
    assert standard_error([1.0, 3.0]) == pytest.approx(1.0)
    assert math.isnan(standard_error([1.0]))


def test_delta_mtl_by_hand() -> None:
    # accuracy 0.6 against 0.5: +0.2; loss 2.2 against 2.0: 10 % more, which is worse
    values, singles = {"a": 0.6, "b": 2.2}, {"a": 0.5, "b": 2.0}
    lower = {"a": False, "b": True}
    assert delta_mtl(values, singles, lower) == pytest.approx((0.2 - 0.1) / 2)
    assert delta_mtl({"b": 1.0}, singles, lower) == pytest.approx(0.5)
    assert math.isnan(delta_mtl({"a": 0.6}, {"a": 0.0}, lower))


def test_gap_closed_by_hand() -> None:
    assert gap_closed(3.5, 3.75, 3.25) == pytest.approx(0.5)  # a loss: lower is better, the sign cancels
    assert gap_closed(0.2, 0.4, 0.6) == pytest.approx(-1)
    assert gap_closed(0.7, 0.4, 0.6) == pytest.approx(1.5)
    assert math.isnan(gap_closed(0.7, 0.4, 0.4))


def test_a_difference_of_paired_seeds_by_hand() -> None:
    # differences 1, 2, 3: mean 2, standard deviation 1
    minuend, subtrahend = {0: 2.0, 1: 4.0, 2: 9.0}, {0: 1.0, 2: 6.0, 1: 2.0}
    gap = difference(minuend, subtrahend)
    assert (gap.value, gap.error, gap.paired) == (pytest.approx(2), pytest.approx(1 / math.sqrt(3)), True)
    assert gap.freedom == 2
    assert not is_gap(gap)  # 3.46 standard errors, where three seeds ask for 4.30
    assert is_gap(difference({0: 11.0, 1: 12.0, 2: 13.0}, {0: 1.0, 1: 1.0, 2: 1.0}))


def test_a_difference_of_other_seeds_by_hand() -> None:
    # variances of the means: 1 of (1, 3), 4 of (0, 4); the difference is 0
    gap = difference({0: 1.0, 1: 3.0}, {1: 0.0, 2: 4.0})
    assert (gap.value, gap.paired) == (pytest.approx(0), False)
    assert gap.error == pytest.approx(math.sqrt(1 + 4))
    assert gap.freedom == pytest.approx((1 + 4) ** 2 / (1 / 1 + 16 / 1))  # Welch
    assert not is_gap(gap)
    assert is_gap(difference({0: 1.0, 1: 1.0}, {2: 0.0, 3: 0.0}))  # without any spread


@pytest.mark.parametrize(
    ("freedom", "limit"),  # tables of Student's t, two-sided 5 %
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (30, 2.042), (120, 1.980), (4.9, 2.776)],
)
def test_a_gap_is_more_than_chance_does_with_so_many_seeds(freedom: float, limit: float) -> None:
    assert gap_limit(freedom) == pytest.approx(limit, abs=6e-4)
    assert math.isnan(gap_limit(0.0))
    gap = SeedEstimate(value=limit + 0.01, error=1.0, paired=True, freedom=freedom)
    assert is_gap(gap)
    assert not is_gap(replace(gap, value=limit - 0.01))


@pytest.mark.parametrize(("seeds", "paired"), [(2, True), (3, True), (5, True), (3, False), (5, False)])
def test_of_pairs_without_a_difference_five_in_a_hundred_are_called_a_gap(seeds: int, paired: bool) -> None:
    rng = np.random.default_rng(0)
    arms = rng.standard_normal((1500, 2, seeds))
    other = 0 if paired else 100
    alarms = [
        is_gap(difference(dict(enumerate(one)), {other + seed: value for seed, value in enumerate(two)}))
        for one, two in arms
    ]
    assert 0.02 < np.mean(alarms) < 0.07


def test_one_seed_says_nothing_about_a_gap() -> None:
    gap = difference({0: 9.0}, {0: 1.0})
    assert gap.value == pytest.approx(8)
    assert math.isnan(gap.error)
    assert not is_gap(gap)
    assert math.isnan(estimate(lambda means_G: means_G[0], [{}]).value)


def test_the_jackknife_of_a_ratio_by_hand() -> None:
    # means 4 / 2; without seed 0: 6 / 3 = 2, without seed 1: 2 / 1 = 2
    both = [{0: 2.0, 1: 6.0}, {0: 1.0, 1: 3.0}]
    ratio = estimate(lambda means_G: means_G[0] / means_G[1], both)
    assert (ratio.value, ratio.error) == (pytest.approx(2), pytest.approx(0))
    # without seed 0: 6 / 1, without seed 1: 2 / 3; (N - 1) / N times squared deviations from their mean 10 / 3
    ratio = estimate(lambda means_G: means_G[0] / means_G[1], [{0: 2.0, 1: 6.0}, {0: 3.0, 1: 1.0}])
    assert ratio.error == pytest.approx(math.sqrt(0.5 * ((6 - 10 / 3) ** 2 + (2 / 3 - 10 / 3) ** 2)))


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    value_N = [0.5, 0.25, 4.0, 1.5]
    mean = estimate(lambda means_G: means_G[0], [dict(enumerate(value_N))])
    assert mean.error == pytest.approx(standard_error(value_N))
