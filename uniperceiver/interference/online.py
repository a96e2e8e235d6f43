"""Interference while a model is trained: from the gradients of its own steps, or from some that are computed for it.

Of a mixed step all pairs of batches are compared. Each pair gives u_j . g_i and u_i . g_j at the same weights; means
over the steps of a window are Eq. 1. A task meets itself where a step draws it twice. Nothing that training computes is
changed.

Shape suffixes: K tasks, W steps of the window, S resamples, L blocks of steps.
"""

import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from uniperceiver.interference.estimate import (
    BLOCKS,
    LEAST_BLOCKS,
    RESAMPLES,
    InterferenceEstimate,
    measure,
    ratio_interval,
    ratio_of_means,
)
from uniperceiver.interference.gradients import Gradient, dot, norm
from uniperceiver.interference.groups import ParameterGroup
from uniperceiver.interference.products import RepeatableLosses
from uniperceiver.streams import numpy_stream

_PAIRS, _EFFECT, _COSINE, _CONFLICTS = range(4)  # what is added up of each pair of tasks


class GradientSource(Protocol):
    """What collects gradients between two measurements."""

    seconds: float  # spent looking at gradients; whoever has counted them sets it to 0

    @property
    def batches(self) -> int:
        """Steps that were looked at, or batches of each task: for the record."""

    def after_backward(self, task: str, factor: float) -> None:
        """Take the gradients of a backward pass, which are `factor` times those of a batch of this task."""

    def after_step(self) -> None:
        """Note that the batches of a step are complete."""

    def measure(self) -> Mapping[ParameterGroup, InterferenceEstimate]:
        """Estimate interference from what was collected since the last time."""


class PairsOfSteps:
    """Collects the gradients of a step's batches, and keeps their dot products until they are taken.

    While a step is made it holds one gradient of the chosen parameters per batch, of the first K + 1 batches at most:
    others of the step are not compared.

    Args:
        tasks: names, in the order of the matrices.
        parameters: of the model, by name.
        seed: of the resampling that intervals come from.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        groups: Sequence[ParameterGroup],
        parameters: Mapping[str, nn.Parameter],
        seed: int = 0,
    ) -> None:
        self._tasks, self._groups, self._seed = list(tasks), list(groups), seed
        self._caught: Gradient = {}
        self._batches: list[tuple[int, float, Gradient]] = []
        self.seconds = 0.0  # spent looking at gradients
        self._sums: dict[ParameterGroup, list[np.ndarray]] = {group: [] for group in groups}
        names = dict.fromkeys(name for group in groups for name in group.parameters)
        self._hooks = [parameters[name].register_hook(partial(self._catch, name)) for name in names]

    def _catch(self, name: str, gradient: Tensor) -> None:
        if len(self._batches) <= len(self._tasks):
            begun = time.perf_counter()
            self._caught[name] = gradient.detach().clone()  # autograd may go on adding to its own
            self.seconds += time.perf_counter() - begun

    def after_backward(self, task: str, factor: float = 1.0) -> None:
        """Take the gradients of the last backward pass, `factor` times those of a batch of this task."""
        if len(self._batches) <= len(self._tasks):
            self._batches.append((self._tasks.index(task), factor, self._caught))
        self._caught = {}

    def after_step(self) -> None:
        """Compare the batches of the step; one with a gradient that is not finite is left out."""
        begun, k = time.perf_counter(), len(self._tasks)
        for group in self._groups:
            sum_KK4 = np.zeros((k, k, 4))
            lengths = [norm(gradient, group) for *_, gradient in self._batches]
            finite = [
                (batch, length) for batch, length in zip(self._batches, lengths, strict=True) if math.isfinite(length)
            ]
            for ((i, f, g), length), ((j, other_f, other_g), other_length) in combinations(finite, 2):
                product = dot(g, other_g, group)
                _add(sum_KK4[i, j], product, length, other_length, f)
                _add(sum_KK4[j, i], product, other_length, length, other_f)
            self._sums[group].append(sum_KK4)
        self._batches = []
        self.seconds += time.perf_counter() - begun

    @property
    def batches(self) -> int:
        """Steps since the last measurement."""
        return len(self._sums[self._groups[0]])

    def measure(self) -> dict[ParameterGroup, InterferenceEstimate]:
        """Estimate interference from the steps since the last time; NaN where no pair of two tasks was drawn."""
        estimates = {group: _estimate(np.array(sums), self._seed) for group, sums in self._sums.items()}
        self._sums = {group: [] for group in self._groups}
        return estimates

    def close(self) -> None:
        """Look at no further gradients."""
        for hook in self._hooks:
            hook.remove()


class GradientsOnDemand:
    """Computes gradients for every measurement, as steps of one task each have no pairs; leaves training's own alone.

    Args:
        tasks: names, in the order of the matrices.
        parameters: of the model, by name.
        losses: the same batches of every task, whenever it is called.
        batches: how many of each task these are.
        seed: of the resampling that intervals come from.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        groups: Sequence[ParameterGroup],
        parameters: Mapping[str, nn.Parameter],
        losses: RepeatableLosses,
        batches: int,
        seed: int = 0,
    ) -> None:
        self._measure = partial(
            measure, tasks, groups, parameters, losses, intervals=batches >= LEAST_BLOCKS, seed=seed
        )
        self.batches, self.seconds = batches, 0.0

    def after_backward(self, task: str, factor: float) -> None:
        """Nothing: the training's own gradients are not looked at."""

    def after_step(self) -> None:
        """Nothing."""

    def measure(self) -> Mapping[ParameterGroup, InterferenceEstimate]:
        """Measure on the batches of this source, with the weights as they are now."""
        return self._measure()


def _add(sum_4: np.ndarray, product: float, affected: float, stepping: float, factor: float) -> None:
    """One pair of batches: its dot product, the lengths of both gradients, and the factor on the affected one."""
    effect = product / stepping if stepping else 0.0
    sum_4 += (1.0, effect / factor if factor else 0.0, effect / affected if affected else 0.0, float(product < 0))


def _estimate(sum_WKK4: np.ndarray, seed: int) -> InterferenceEstimate:
    mean_KK4 = _means(sum_WKK4.sum(axis=0))
    effect_KK = mean_KK4[..., _EFFECT]
    low_KK, high_KK = _interval(sum_WKK4, seed)
    return InterferenceEstimate(
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
    block_LKK4 = np.array([block.sum(axis=0) for block in np.array_split(sum_WKK4, min(steps, BLOCKS))])
    rng = numpy_stream(seed, "interference", "resampling")
    count_SL = rng.multinomial(len(block_LKK4), np.full(len(block_LKK4), 1 / len(block_LKK4)), size=RESAMPLES)
    effect_SKK = _means(np.einsum("sl,lijx->sijx", count_SL, block_LKK4))[..., _EFFECT]
    return ratio_interval(effect_SKK)
