"""How numbers and names are written."""

import math

import numpy as np
import pytest

from uniperceiver.report.parts.numbers import (
    evenly,
    metric_value,
    percent,
    short_names,
    signed,
    tick_label,
    ticks,
    with_error,
)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3e-7, 2e-7), (1e5, 3.3e5), (0.999, 1.001)])
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    marks = ticks(low, high, 5)
    assert 2 <= len(marks) <= 6
    assert low - 1e-9 <= min(marks) < max(marks) <= high + 1e-9
    assert len(set(np.round(np.diff(marks), 12))) == 1


@pytest.mark.parametrize(
    ("value", "text"), [(0.2, "20\u202f%"), (0.0, "0\u202f%"), (1.0, "100\u202f%"), (0.125, "12.5\u202f%")]
)
def test_shares_on_an_axis_are_per_cents(value: float, text: str) -> None:
    assert tick_label(value, "accuracy@1") == text


@pytest.mark.parametrize(("value", "text"), [(0.5, "0.5"), (1500, "1,500"), (2e4, "20k"), (3e6, "3M"), (2e9, "2e+09")])
def test_values_on_an_axis_are_short(value: float, text: str) -> None:
    assert tick_label(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.324, "+0.32"), (-0.08, "−0.08"), (0.0, "0.00"), (-0.001, "0.00"), (14.2, "+14"), (9.996, "+10")),
        *((-2345.0, "−2e+03"), (999.6, "+1e+03"), (None, "–"), (math.nan, "–")),
    ],
)
def test_numbers_are_written_with_their_sign(value: float | None, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize(
    ("value", "error", "metric", "text"),
    [
        (0.47, 0.0094, "loss", "0.470 ± 0.009"),
        (0.47, 0.0004, "loss", "0.470 ± 0.0004"),
        (0.47, 0.0, "loss", "0.470 ± 0.000"),
        (27.44, 1.26, "cider_d", "27.4 ± 1.3"),
        (0.742, 0.0126, "accuracy@1", "74.2\u202f% ± 1.3"),
        (0.742, math.nan, "accuracy@1", "74.2\u202f%"),
        (math.nan, math.nan, "loss", "–"),
    ],
)
def test_errors_have_as_many_decimals(value: float, error: float, metric: str, text: str) -> None:
    assert with_error(value, error, metric) == text


def test_probabilities_claim_no_certainty() -> None:
    assert [percent(share) for share in (0.0, 0.004, 0.5, 0.996, 1.0)] == (
        ["0\u202f%", "<1\u202f%", "50\u202f%", ">99\u202f%", "100\u202f%"]
    )


def test_short_names_stay_apart() -> None:
    names = ("image_text_retrieval_a", "image_text_retrieval_b", "words")
    short = short_names(names, 12)
    assert len(set(short)) == 3
    assert max(map(len, short)) <= 12
    assert short[2] == "words"
    assert short_names(("a b", "a b"), 5) == ["a b", "a b"]


def test_evenly_keeps_both_ends() -> None:
    assert evenly(range(10), 4) == [0, 3, 6, 9]
    assert evenly([1, 2], 5) == [1, 2]
    assert evenly([], 3) == []


def test_chance_is_that_of_the_main_metric_or_of_its_own() -> None:
    metrics = {"accuracy": 0.5, "chance": 0.25, "loss": 1.0, "top5_accuracy": 0.9, "chance_top5_accuracy": 0.75}
    chances = {name: metric_value(metrics, name, "accuracy").chance for name in ("accuracy", "loss", "top5_accuracy")}
    assert chances == {"accuracy": 0.25, "loss": None, "top5_accuracy": 0.75}
