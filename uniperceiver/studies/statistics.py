"""Figures of several seeds compared: standard errors, the gap between two arms, Δ_MTL.

Shape suffixes: N seeds, G groups of figures.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from uniperceiver.studies.records import SeedEstimate

FALSE_ALARMS = 0.05  # of comparisons of arms that do not differ, each of which may be called a gap

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
    """Whether two arms differ by more than `gap_limit` standard errors; never where there is no standard error."""
    return abs(difference.value) > gap_limit(difference.freedom) * difference.error


def gap_limit(freedom: float) -> float:
    """How many standard errors a difference exceeds by chance in a share `FALSE_ALARMS` of comparisons; NaN for NaN.

    It is Student's t quantile of 1 - FALSE_ALARMS / 2, with the degrees of freedom rounded down: 4.30 with 3 paired
    seeds. With so few seeds the standard error itself is rough, and 2 of them are exceeded by 18 % of the pairs that do
    not differ.
    """
    if not freedom >= 1:
        return math.nan
    whole, low, high = int(freedom), 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (angle, high) if _share_within(angle, whole) < 1 - FALSE_ALARMS else (low, angle)
    return math.sqrt(whole) * math.tan(low)


def _share_within(angle: float, freedom: int) -> float:
    """P(|t| <= sqrt(n) tan(angle)) of Student's t with n degrees of freedom (Abramowitz & Stegun, 26.7.3-4)."""
    odd, cosine = freedom % 2, math.cos(angle)
    term = total = (cosine if freedom > 1 else 0.0) if odd else 1.0
    for factor in range(2 + odd, freedom, 2):
        term *= (factor - 1) / factor * cosine**2
        total += term
    share = math.sin(angle) * total
    return 2 / math.pi * (angle + share) if odd else share


def difference(minuend: BySeed, subtrahend: BySeed) -> SeedEstimate:
    """The mean of the first minus the mean of the second."""
    return estimate(lambda means_G: means_G[0] - means_G[1], [minuend, subtrahend])


def estimate(statistic: Callable[[Sequence[float]], float], groups: Sequence[BySeed]) -> SeedEstimate:
    """A function of the groups' means with its jackknife standard error.

    Where all groups have the same seeds, a seed is left out of all groups at once: sqrt((N - 1) / N sum_s (θ_s - θ̄)²).
    Otherwise the groups are independent: one value of one group is left out, and the variances of the groups are added;
    its degrees of freedom are Welch's.
    Of a mean this is its standard error, of a difference that of a paired or unpaired difference.
    """
    paired = all(group.keys() == groups[0].keys() for group in groups)
    if not all(groups):
        return SeedEstimate(value=math.nan, error=math.nan, paired=paired)
    sizes = [len(group) for group in groups]
    means = [float(np.mean(list(group.values()))) for group in groups]
    if paired:
        left_out = [[_mean_without(group, seed) for group in groups] for seed in groups[0]]
        variance, freedom = _jackknife_variance([statistic(means_G) for means_G in left_out]), sizes[0] - 1.0
    else:
        variances = []
        for index, group in enumerate(groups):
            left_out = [[*means[:index], _mean_without(group, seed), *means[index + 1 :]] for seed in group]
            variances.append(_jackknife_variance([statistic(means_G) for means_G in left_out]))
        variance, freedom = sum(variances), _welch(variances, sizes)
    return SeedEstimate(value=statistic(means), error=math.sqrt(variance), paired=paired, freedom=freedom)


def _welch(variance_G: Sequence[float], size_G: Sequence[int]) -> float:
    """Degrees of freedom of a sum of independent variances (Welch & Satterthwaite); NaN where a group has one seed."""
    parts = [
        variance**2 / (size - 1) if size > 1 else math.nan for variance, size in zip(variance_G, size_G, strict=True)
    ]
    return sum(variance_G) ** 2 / sum(parts) if any(parts) else float(min(size_G) - 1)


def _mean_without(group: BySeed, seed: int) -> float:
    rest = [value for other, value in group.items() if other != seed]
    return float(np.mean(rest)) if rest else math.nan


def _jackknife_variance(value_N: Sequence[float]) -> float:
    """(N - 1) / N times the sum of squared deviations of the leave-one-out values; NaN below two."""
    if len(value_N) < 2:
        return math.nan
    return float(np.var(value_N) * (len(value_N) - 1))
