"""Figures of several seeds compared: standard errors, the gap between two arms, Δ_MTL.

Shape suffixes: N seeds, G groups of figures.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from uniperceiver.studies.records import SeedEstimate

BySeed = Mapping[int, float]  # a figure of one arm, for each of its seeds


def standard_error(value_N: Sequence[float]) -> float:
    """Standard error of the mean, sqrt(sum (x - mean)² / (N (N - 1))); NaN below two values."""
    if len(value_N) < 2:
        return math.nan
    return float(np.std(value_N, ddof=1) / math.sqrt(len(value_N)))


def delta_mtl(values: Mapping[str, float], singles: Mapping[str, float], lower: Mapping[str, bool]) -> float:
    """Δ_MTL = mean_k (-1)^{l_k} (M_k - M_k^single) / M_k^single; above 0: better than the single-task runs.

    Args:
        values: M_k of each task k.
        singles: M_k^single of (at least) the same tasks.
        lower: l_k, whether a lower figure of the task is the better one.
    """
    gains = []
    for task, value in values.items():
        single = singles[task]
        gain = (value - single) / single if single else math.nan
        gains.append(-gain if lower[task] else gain)
    return float(np.mean(gains)) if gains else math.nan


def gap_closed(x: float, shared: float, own: float) -> float:
    """(x - shared) / (own - shared): 0 as good as `shared`, 1 as good as `own`; NaN without any difference."""
    return (x - shared) / (own - shared) if own != shared else math.nan


def is_gap(difference: SeedEstimate) -> bool:
    """Whether two arms differ by more than 2 standard errors; never where there is no standard error."""
    return abs(difference.value) > 2 * difference.error


def difference(minuend: BySeed, subtrahend: BySeed) -> SeedEstimate:
    """The mean of the first minus the mean of the second."""
    return estimate(lambda means_G: means_G[0] - means_G[1], [minuend, subtrahend])


def estimate(statistic: Callable[[Sequence[float]], float], groups: Sequence[BySeed]) -> SeedEstimate:
    """A function of the groups' means with its jackknife standard error.

    Where all groups have the same seeds, a seed is left out of all groups at once: sqrt((N - 1) / N sum_s (θ_s - θ̄)²).
    Otherwise the groups are independent: one value of one group is left out, and the variances of the groups are added.
    Of a mean this is its standard error, of a difference that of a paired or unpaired difference.
    """
    paired = all(group.keys() == groups[0].keys() for group in groups)
    if not all(groups):
        return SeedEstimate(value=math.nan, error=math.nan, paired=paired)
    means = [float(np.mean(list(group.values()))) for group in groups]
    if paired:
        left_out = [[_mean_without(group, seed) for group in groups] for seed in groups[0]]
        variance = _jackknife_variance([statistic(means_G) for means_G in left_out])
    else:
        variance = 0.0
        for index, group in enumerate(groups):
            left_out = [[*means[:index], _mean_without(group, seed), *means[index + 1 :]] for seed in group]
            variance += _jackknife_variance([statistic(means_G) for means_G in left_out])
    return SeedEstimate(value=statistic(means), error=math.sqrt(variance), paired=paired)


def _mean_without(group: BySeed, seed: int) -> float:
    rest = [value for other, value in group.items() if other != seed]
    return float(np.mean(rest)) if rest else math.nan


def _jackknife_variance(value_N: Sequence[float]) -> float:
    """(N - 1) / N times the sum of squared deviations of the leave-one-out values; NaN below two."""
    if len(value_N) < 2:
        return math.nan
    return float(np.var(value_N) * (len(value_N) - 1))
