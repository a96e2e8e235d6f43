"""Intervals against published values, against each other, and by how often they hold the truth."""

import math

import numpy as np
import pytest

from uniperceiver.evaluation import intervals
from uniperceiver.evaluation.captions import caption_scores, caption_statistics
from uniperceiver.evaluation.intervals import (
    above_chance,
    bootstrap_captions,
    bootstrap_confusion,
    bootstrap_mean,
    bootstrap_precision,
    resampled_weights,
    wilson,
)
from uniperceiver.evaluation.metrics import matthews, mean_average_precision


def test_wilson_equals_published_values() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
    for right, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        interval = wilson(right, n)
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=6e-5)
    assert wilson(29, 29).high == 1


def test_wilson_refuses_impossible_counts() -> None:
    with pytest.raises(ValueError, match="3 right answers of 2"):
        wilson(3, 2)


def test_bootstrap_of_a_mean_is_near_the_normal_interval_and_seeded() -> None:
    values = np.random.default_rng(0).normal(3, 2, size=400)
    interval = bootstrap_mean(values, seed=1)
    half = 1.96 * values.std() / math.sqrt(400)
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    assert interval == bootstrap_mean(values, seed=1)
    assert interval != bootstrap_mean(values, seed=2)


def test_dependent_samples_are_resampled_together() -> None:
    values = np.random.default_rng(0).normal(size=50).repeat(20)
    alone, together = (bootstrap_mean(values, seed=0, groups_N=groups) for groups in (None, np.arange(1000) // 20))
    assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(math.sqrt(20), rel=0.2)


def test_bootstrap_of_captions_holds_the_scores_and_equals_plain_resampling() -> None:
    draw = np.random.default_rng(0)
    texts = [" ".join(f"w{word}" for word in draw.integers(0, 9, size=7)) for _ in range(120)]
    statistics = caption_statistics(texts[:30], [texts[at : at + 3] for at in range(30, 120, 3)])
    scores = caption_scores(statistics)
    intervals = bootstrap_captions(statistics, seed=0)
    for metric, interval in intervals.items():
        assert interval.low < scores[metric] < interval.high
    for metric, score_I in (("rouge_l", statistics.rouge_I), ("cider_d", statistics.cider_I)):
        mean = bootstrap_mean(score_I, seed=0)
        assert (mean.low, mean.high) == pytest.approx((intervals[metric].low, intervals[metric].high))


def test_bootstrap_of_a_confusion_table_holds_its_metric() -> None:
    table = np.array([[40, 10], [15, 35]])
    interval = bootstrap_confusion(table, matthews, seed=0)
    assert interval.low < matthews(table) < interval.high
    assert 0.2 < interval.high - interval.low < 0.5


def test_bootstrap_of_average_precision_equals_plain_resampling() -> None:
    draw = np.random.default_rng(0)
    right_NK = draw.random((40, 3)) < 0.3
    score_NK = right_NK + draw.normal(size=(40, 3))
    resamples = np.concatenate(list(resampled_weights(40, 0, 200))).astype(int)
    rows = [np.repeat(np.arange(40), weight_N) for weight_N in resamples]
    values = [mean_average_precision(score_NK[row_N], right_NK[row_N]) for row_N in rows]
    interval = bootstrap_precision(score_NK, right_NK, seed=0)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.percentile(values, (2.5, 97.5))))
    assert interval.low < mean_average_precision(score_NK, right_NK) < interval.high


def test_one_sample_says_nothing() -> None:
    interval = bootstrap_mean(np.array([0.9]), seed=0)
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    assert not above_chance(interval.low, 0.1)


def test_only_an_interval_beyond_chance_is_above_it() -> None:
    assert above_chance(0.51, 0.5)
    assert not above_chance(0.5, 0.5)
    assert not above_chance(math.nan, 0.5)


def test_groups_of_unequal_size_are_weighed_by_it() -> None:
    """Where all values are alike there is nothing to be unsure of, whatever groups are drawn."""
    groups_N = np.repeat(np.arange(6), (1, 1, 1, 1, 1, 40))
    interval = bootstrap_mean(np.full(45, 0.25), seed=0, groups_N=groups_N)
    assert (interval.low, interval.high) == (pytest.approx(0.25), pytest.approx(0.25))


def test_where_all_answers_are_alike_a_bound_is_exact() -> None:
    for n in range(1, 300):
        assert wilson(0, n).low == 0.0
        assert wilson(n, n).high == 1.0


@pytest.mark.parametrize("cells", [1, 15, 10**6])
def test_resamples_are_the_same_however_many_are_in_memory(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(resampled_weights(5, 0, 20)))
    monkeypatch.setattr(intervals, "_CELLS", cells)
    parts = list(resampled_weights(5, 0, 20))
    assert [len(part) for part in parts] == {1: [1] * 20, 15: [3] * 6 + [2], 10**6: [20]}[cells]
    assert np.array_equal(np.concatenate(parts), whole)
    assert whole.sum(axis=1).tolist() == [5] * 20
    assert len(np.unique(whole, axis=0)) > 10


def test_short_captions_are_penalised_in_the_interval_too() -> None:
    """Every caption is the first half of its reference: all resamples have the score of the whole."""
    references = [[" ".join(f"w{image}{word}" for word in range(length))] for image, length in enumerate((10, 12, 14))]
    captions = [" ".join(text.split()[: len(text.split()) // 2]) for (text,) in references]
    statistics = caption_statistics(captions, references)
    score = caption_scores(statistics)["bleu4"]
    assert score == pytest.approx(math.exp(1 - 2))
    interval = bootstrap_captions(statistics, seed=0, resamples=50)["bleu4"]
    assert (interval.low, interval.high) == pytest.approx((score, score))
