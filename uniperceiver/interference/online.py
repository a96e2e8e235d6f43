"""Interference from the gradients that training computes anyway: pairs of batches of the same mixed step.

Each pair of batches in a step gives u_j . g_i and u_i . g_j at the same weights; means over the steps of a window are
Eq. 1. A task meets itself where a step draws it twice. Nothing that training computes is changed.

Shape suffixes: K tasks, W steps of the window, S resamples, L blocks of steps.
"""

import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations

import numpy as np
from torch import Tensor, nn

from uniperceiver.interference.estimate import BLOCKS, LEAST_BLOCKS, RESAMPLES, Estimate, ratio_interval, ratio_of_means
from uniperceiver.interference.gradients import Gradient, dot, norm
from uniperceiver.interference.groups import Group
from uniperceiver.streams import numpy_stream

_PAIRS, _EFFECT, _COSINE, _CONFLICTS = range(4)  # what is added up of each pair of tasks


class PairsOfSteps:
    """Collects the gradients of a step's batches, and keeps their dot products until they are taken.

    While a step is made it holds one gradient of the chosen parameters per batch, of the first K + 1 batches at most:
    others of the step are not compared.

    Args:
        tasks: names, in the order of the matrices.
        parameters: of the model, by name.
    """

    def __init__(self, tasks: Sequence[str], groups: Sequence[Group], parameters: Mapping[str, nn.Parameter]) -> None:
        self._tasks, self._groups = list(tasks), list(groups)
        self._caught: Gradient = {}
        self._batches: list[tuple[int, float, Gradient]] = []
        self.seconds = 0.0  # spent looking at gradients
        self._sums: dict[Group, list[np.ndarray]] = {group: [] for group in groups}
        names = dict.fromkeys(name for group in groups for name in group.parameters)
        self._hooks = [parameters[name].register_hook(partial(self._catch, name)) for name in names]

    def _catch(self, name: str, gradient: Tensor) -> None:
        if len(self._batches) <= len(self._tasks):
            begun = time.perf_counter()
            self._caught[name] = gradient.detach().clone()  # autograd may go on adding to its own
            self.seconds += time.perf_counter() - begun

    def after_backward(self, task: str, factor: float = 1.0) -> None:
        """The gradients of the last backward pass are `factor` times those of a batch of this task."""
        if len(self._batches) <= len(self._tasks):
            self._batches.append((self._tasks.index(task), factor, self._caught))
        self._caught = {}

    def after_step(self) -> None:
        """Compare the batches of the step; one with a gradient that is not finite is left out."""
        begun, k = time.perf_counter(), len(self._tasks)
        for group in self._groups:
            sum_KK4 = np.zeros((k, k, 4))
            lengths = [norm(gradient, group) for *_, gradient in self._batches]
            finite = [each for each in zip(self._batches, lengths, strict=True) if math.isfinite(each[1])]
            for ((i, f, g), length), ((j, other_f, other_g), other_length) in combinations(finite, 2):
                product = dot(g, other_g, group)
                _add(sum_KK4[i, j], product, length, other_length, f)
                _add(sum_KK4[j, i], product, other_length, length, other_f)
            self._sums[group].append(sum_KK4)
        self._batches = []
        self.seconds += time.perf_counter() - begun

    @property
    def steps(self) -> int:
        """Steps since the last time that figures were taken."""
        return len(self._sums[self._groups[0]])

    def take(self, seed: int) -> dict[Group, Estimate]:
        """What the steps since the last time have shown; NaN where no pair of two tasks was drawn."""
        found = {group: _estimate(np.array(sums), seed) for group, sums in self._sums.items()}
        self._sums = {group: [] for group in self._groups}
        return found

    def close(self) -> None:
        """Look at no further gradients."""
        for hook in self._hooks:
            hook.remove()


def _add(sum_4: np.ndarray, product: float, affected: float, stepping: float, factor: float) -> None:
    """One pair of batches: its dot product, the lengths of both gradients, and the factor on the affected one."""
    effect = product / stepping if stepping else 0.0
    sum_4 += (1.0, effect / factor if factor else 0.0, effect / affected if affected else 0.0, float(product < 0))


def _estimate(sum_WKK4: np.ndarray, seed: int) -> Estimate:
    mean_KK4 = _means(sum_WKK4.sum(axis=0))
    effect_KK = mean_KK4[..., _EFFECT]
    low_KK, high_KK = _interval(sum_WKK4, seed)
    return Estimate(
        matrix_KK=ratio_of_means(effect_KK),
        low_KK=low_KK,
        high_KK=high_KK,
        mean_of_ratios_KK=np.full_like(effect_KK, np.nan),  # a batch meets too few others for a ratio of its own
        cosine_KK=mean_KK4[..., _COSINE],
        conflict_rate_KK=mean_KK4[..., _CONFLICTS],
    )


def _means(sum_KK4: np.ndarray) -> np.ndarray:
    """Sums over the number of pairs, (..., K, K, 4); NaN where there is none."""
    pairs_KK1 = sum_KK4[..., _PAIRS, None]
    return np.divide(sum_KK4, pairs_KK1, out=np.full_like(sum_KK4, np.nan), where=pairs_KK1 > 0)


def _interval(sum_WKK4: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap interval of 95 % of the ratio of means, drawing blocks of steps again; NaN of fewer than ten steps."""
    steps, k = sum_WKK4.shape[:2]
    if steps < LEAST_BLOCKS:
        return np.full((k, k), np.nan), np.full((k, k), np.nan)
    block_LKK4 = np.array([each.sum(axis=0) for each in np.array_split(sum_WKK4, min(steps, BLOCKS))])
    rng = numpy_stream(seed, "interference", "resampling")
    count_SL = rng.multinomial(len(block_LKK4), np.full(len(block_LKK4), 1 / len(block_LKK4)), size=RESAMPLES)
    effect_SKK = _means(np.einsum("sl,lijx->sijx", count_SL, block_LKK4))[..., _EFFECT]
    return ratio_interval(effect_SKK)
