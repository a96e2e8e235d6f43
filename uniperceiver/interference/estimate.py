"""Interference from dot products: Eq. 1 and 2 of Uni-Perceiver-MoE (arXiv 2206.04674), and what stands beside them.

To first order a step of length lambda along u_j lowers task i's loss by lambda u_j . g_i (Eq. 1). Interference is that
drop over the one that a step of task i itself brings (Eq. 2): 1 on the diagonal, above 0 where task j helps task i,
below 0 where it hurts. In every matrix row i is the affected task, column j the task that steps; NaN: not measurable.

Shape suffixes: K tasks, n batches of a task, S resamples, L blocks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from uniperceiver.interference.groups import ParameterGroup
from uniperceiver.interference.products import Products, RepeatableLosses, products
from uniperceiver.streams import numpy_stream

BLOCKS = 20  # of a task's batches, which are resampled
LEAST_BLOCKS = 10
RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class InterferenceEstimate:
    """What is measured on one group of parameters: tables of float64, (K, K)."""

    matrix_KK: np.ndarray  # Eq. 2, the ratio of means
    low_KK: np.ndarray  # 95 % interval of it
    high_KK: np.ndarray
    mean_of_ratios_KK: np.ndarray  # Eq. 2, the mean over batches of the ratio, as the original computes it
    cosine_KK: np.ndarray
    conflict_rate_KK: np.ndarray


def measure(
    tasks: Sequence[str],
    groups: Sequence[ParameterGroup],
    parameters: Mapping[str, nn.Parameter],
    losses: RepeatableLosses,
    *,
    intervals: bool = True,
    seed: int = 0,
) -> dict[ParameterGroup, InterferenceEstimate]:
    """Measure the interference between tasks on each group of parameters, with gradients.

    Args:
        tasks: names for messages.
        parameters: of the model, by name; those of the groups are looked at.
        losses: the same batches of every task, two or more of each, whenever it is called.
        intervals: also 95 % intervals, for twice as many passes; they need 10 batches of each task.
        seed: of the resampling that the intervals come from.

    Raises:
        UserError: a task without a gradient on a group, or with fewer than two batches; a gradient that is not finite.
    """
    dots = products(tasks, groups, parameters, losses, both_sides=intervals)
    return {group: estimate(of_group, seed) for group, of_group in dots.items()}


def estimate(dots: Products, seed: int = 0) -> InterferenceEstimate:
    """Compute everything that is measured from the products of one group.

    Args:
        seed: of the resampling.
    """
    low_KK, high_KK = interval(dots, seed)
    return InterferenceEstimate(
        matrix_KK=ratio_of_means(effect(dots)),
        low_KK=low_KK,
        high_KK=high_KK,
        mean_of_ratios_KK=mean_of_ratios(dots),
        cosine_KK=cosine(dots),
        conflict_rate_KK=conflict_rate(dots),
    )


def effect(dots: Products) -> np.ndarray:
    """Eq. 1 over lambda, (K, K): mean of u_j . g_i over pairs of different batches, the drop of task i's loss."""
    return np.array([[felt_n.mean() for felt_n in row] for row in dots.felt_KKn])


def ratio_of_means(effect_KK: np.ndarray) -> np.ndarray:
    """Eq. 2, (..., K, K): the effect of j over that of i itself; NaN where a step of i does not lower its own loss."""
    own_K1 = np.diagonal(effect_KK, axis1=-2, axis2=-1)[..., None]
    return np.divide(effect_KK, own_K1, out=np.full_like(effect_KK, np.nan), where=own_K1 > 0)


def mean_of_ratios(dots: Products) -> np.ndarray:
    """Eq. 2 as its expectation is written, (K, K): the mean over batches of i of one effect over the other.

    Less robust than the ratio of means: one batch on which the own effect is nearly 0 can decide it.
    """
    return _by_pair(dots, lambda i, felt_n: _mean(_quotient(felt_n, dots.felt_KKn[i][i], empty=np.nan)))


def cosine(dots: Products) -> np.ndarray:
    """Mean cosine of gradients of i and j over pairs of different batches, (K, K), -1 to 1; a gradient of 0 has 0."""
    return _by_pair(dots, lambda i, felt_n: float(_quotient(felt_n, dots.norm_Kn[i], empty=0.0).mean()))


def conflict_rate(dots: Products) -> np.ndarray:
    """Share of i's batches whose loss the mean step of j would raise, (K, K), from 0 to 1."""
    return _by_pair(dots, lambda i, felt_n: float((felt_n < 0).mean()))


def interval(dots: Products, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap interval of 95 % of the ratio of means, two arrays (K, K).

    Each task's batches, in blocks, are drawn again with replacement, at once for their part as affected and as
    stepping ones; the two sides' deviations are added, which is the first order of a statistic of two samples
    (Hoeffding 1948). NaN: no products of both sides, fewer than 10 batches of a task, or an own
    effect that is not clearly above 0, where the ratio has no bounds.
    """
    k = len(dots.norm_Kn)
    nothing = np.full((k, k), np.nan)
    if dots.done_KKn is None or min(map(len, dots.norm_Kn)) < LEAST_BLOCKS:
        return nothing, nothing
    felt_SKK, done_SKK = np.empty((RESAMPLES, k, k)), np.empty((RESAMPLES, k, k))
    for task in range(k):
        rng = numpy_stream(seed, "interference", "resampling", task)
        size = len(dots.norm_Kn[task])
        drawn_SL = rng.integers(min(size, BLOCKS), size=(RESAMPLES, min(size, BLOCKS)))
        for other in range(k):
            felt_SKK[:, task, other] = _resampled(dots.felt_KKn[task][other], drawn_SL)
            done_SKK[:, other, task] = _resampled(dots.done_KKn[other][task], drawn_SL)
    effect_SKK = felt_SKK + done_SKK - effect(dots)
    return ratio_interval(effect_SKK)


def ratio_interval(effect_SKK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of 95 % of the ratio of means from resampled effects, two arrays (K, K).

    NaN in the rows of tasks whose own effect is not clearly above 0, where the ratio has no bounds.
    """
    own_SK = np.nan_to_num(np.diagonal(effect_SKK, axis1=1, axis2=2), nan=-np.inf)
    clear_K1 = np.quantile(own_SK, 0.025, axis=0, method="lower")[:, None] > 0
    ratio_SKK = ratio_of_means(effect_SKK)
    there_KK = clear_K1 & ~np.isnan(ratio_SKK).all(axis=0)
    low_KK, high_KK = np.nanpercentile(np.where(there_KK, ratio_SKK, 0.0), (2.5, 97.5), axis=0)
    return np.where(there_KK, low_KK, np.nan), np.where(there_KK, high_KK, np.nan)


def _resampled(value_n: np.ndarray, drawn_SL: np.ndarray) -> np.ndarray:
    """Means of blocks that are drawn again, (S,)."""
    blocks = np.array_split(value_n, drawn_SL.shape[1])
    sum_L, size_L = np.array([block.sum() for block in blocks]), np.array([len(block) for block in blocks])
    resampled: np.ndarray = sum_L[drawn_SL].sum(axis=1) / size_L[drawn_SL].sum(axis=1)
    return resampled


def _by_pair(dots: Products, value: Callable[[int, np.ndarray], float]) -> np.ndarray:
    """A number of every pair from what i's batches feel of the steps of j, (K, K)."""
    return np.array([[value(i, felt_n) for felt_n in row] for i, row in enumerate(dots.felt_KKn)])


def _quotient(value_n: np.ndarray, over_n: np.ndarray, *, empty: float) -> np.ndarray:
    """One over the other, `empty` where the other is 0."""
    return np.divide(value_n, over_n, out=np.full_like(value_n, empty), where=over_n != 0)


def _mean(value_n: np.ndarray) -> float:
    """The mean of what is a number; NaN where nothing is."""
    there_n = ~np.isnan(value_n)
    return float(value_n[there_n].mean()) if there_n.any() else float("nan")
