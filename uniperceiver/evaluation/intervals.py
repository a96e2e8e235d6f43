"""95 % intervals of measured numbers, and whether such an interval excludes chance.

Shape suffixes: N samples, G groups, S resamples, I images, K classes, M statistics.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from uniperceiver.evaluation.captions import CaptionStatistics, bleu
from uniperceiver.evaluation.metrics import mean_average_precision
from uniperceiver.streams import numpy_stream

_Z = 1.959963984540054  # the normal distribution's 97.5 % quantile
_RESAMPLES = 1000
_RANKINGS = 200  # resamples of a metric that ranks all samples
_CELLS = 1_000_000  # resample weights in memory together


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Where the true value lies with 95 % confidence; infinite when one sample is all there is."""

    low: float
    high: float


def above_chance(low: float, chance: float) -> bool:
    """Whether a result is clearly above chance: its 95 % interval excludes it. NaN is never above."""
    return low > chance


def wilson(right: float, n: int) -> Interval:
    """Of a proportion, `right` of `n` independent answers (Wilson 1927); `right` may be a sum of probabilities.

    Raises:
        ValueError: n is not positive, or right is outside 0..n.
    """
    if n <= 0 or not 0 <= right <= n:
        raise ValueError(f"interval: {right} right answers of {n}")
    share, square = right / n, _Z**2 / n
    middle = (share + square / 2) / (1 + square)
    half = _Z * math.sqrt(share * (1 - share) / n + square / (4 * n)) / (1 + square)
    # At the ends one bound is exact, whatever the rounding.
    return Interval(low=0.0 if right == 0 else middle - half, high=1.0 if right == n else middle + half)


def bootstrap_mean(
    values_N: np.ndarray, *, seed: int, groups_N: np.ndarray | None = None, resamples: int = _RESAMPLES
) -> Interval:
    """Of a mean, by resampling (Efron 1979, percentiles): samples, or whole groups of dependent ones.

    Give `groups_N` (any numbers) where samples come together: masked words of a text, captions of an image.

    Raises:
        ValueError: no values.
    """
    if not len(values_N):
        raise ValueError("interval: no values")
    group_N = np.arange(len(values_N)) if groups_N is None else np.unique(groups_N, return_inverse=True)[1]
    sums_GM = np.stack([np.bincount(group_N, values_N), np.bincount(group_N)], axis=1)
    sums_SM = np.concatenate([weights @ sums_GM for weights in resampled_weights(len(sums_GM), seed, resamples)])
    return percentiles(sums_SM[:, 0] / sums_SM[:, 1], len(sums_GM))


def bootstrap_precision(score_NK: np.ndarray, right_NK: np.ndarray, *, seed: int) -> Interval:
    """Of mean average precision, by resampling samples; fewer times than others, as each takes a ranking by class."""
    values = [
        mean_average_precision(score_NK, right_NK, weight_N)
        for weights in resampled_weights(len(score_NK), seed, _RANKINGS)
        for weight_N in weights
    ]
    return percentiles(np.array(values), len(score_NK))


def bootstrap_captions(statistics: CaptionStatistics, *, seed: int, resamples: int = _RESAMPLES) -> dict[str, Interval]:
    """Of bleu4, cider_d and rouge_l, by resampling images; CIDEr-D keeps the document frequencies of all images."""
    parts = (statistics.length_I, statistics.closest_I, statistics.cider_I, statistics.rouge_I)
    table_IM = np.concatenate([statistics.correct_I4, statistics.guess_I4, np.stack(parts, axis=1)], axis=1)
    images = len(table_IM)
    sums_SM = np.concatenate([weights @ table_IM for weights in resampled_weights(images, seed, resamples)])
    values = {
        "bleu4": bleu(sums_SM[:, :4], sums_SM[:, 4:8], sums_SM[:, 8], sums_SM[:, 9]),
        "cider_d": sums_SM[:, 10] / images,
        "rouge_l": sums_SM[:, 11] / images,
    }
    return {metric: percentiles(values_S, images) for metric, values_S in values.items()}


def bootstrap_confusion(
    confusion_KK: np.ndarray, metric: Callable[[np.ndarray], float], *, seed: int, resamples: int = _RESAMPLES
) -> Interval:
    """Of a metric of the confusion table (f1, matthews), by resampling the answers in it.

    Raises:
        ValueError: the table is empty.
    """
    total = int(confusion_KK.sum())
    if not total:
        raise ValueError("interval: the confusion table is empty")
    tables = numpy_stream(seed, "bootstrap").multinomial(total, confusion_KK.ravel() / total, size=resamples)
    return percentiles(np.array([metric(table.reshape(confusion_KK.shape)) for table in tables]), total)


def resampled_weights(samples: int, seed: int, resamples: int, wide: int = 0) -> Iterator[np.ndarray]:
    """How often each sample is in each resample: (S, samples) float64 in pieces, S adding up to `resamples`.

    Args:
        wide: numbers that whoever asks makes of every resample, if these are more than the samples.
    """
    stream = numpy_stream(seed, "bootstrap")
    step = max(1, _CELLS // max(samples, wide))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        cell = stream.integers(samples, size=(size, samples)) + np.arange(size)[:, None] * samples
        yield np.bincount(cell.ravel(), minlength=size * samples).reshape(size, samples).astype(float)


def percentiles(values_S: np.ndarray, samples: int) -> Interval:
    """The ends of the middle 95 % of resampled values; infinite where there is one sample, or none has a value."""
    if samples < 2 or not len(values_S):  # every resample is the same one
        return Interval(low=-math.inf, high=math.inf)
    low, high = np.percentile(values_S, (2.5, 97.5))
    return Interval(low=float(low), high=float(high))
