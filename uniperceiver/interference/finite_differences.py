"""Interference by taking the steps: losses before and after, with no gradient of the affected task.

The plain second way to the same numbers: n batches of K tasks cost K n + 2 passes over all of them, where gradients
cost four. In float64 and with small steps both agree; with large ones this is what a step really does.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from uniperceiver.interference.gradients import Gradient, gradient, norm
from uniperceiver.interference.groups import ParameterGroup
from uniperceiver.interference.products import Products, RepeatableLosses, check, refuse_not_finite

STEP = 1e-6  # in float64: far above the noise of rounding, far below what curvature bends


def finite_differences(
    tasks: Sequence[str],
    groups: Sequence[ParameterGroup],
    parameters: Mapping[str, nn.Parameter],
    losses: RepeatableLosses,
    *,
    step: float = STEP,
) -> dict[ParameterGroup, Products]:
    """Eq. 1 as it is written: (L_i(theta) - L_i(theta - step u_j^a)) / step of every pair of batches in every group.

    Args:
        tasks: names of the tasks; two batches of each, or more.
        parameters: of the model, by name, in float64; they are moved, and put back.
        step: length of a step.

    Raises:
        UserError: as `products`.
    """
    return {group: _of_group(tasks, group, parameters, losses, step) for group in groups}


def _of_group(
    tasks: Sequence[str],
    group: ParameterGroup,
    parameters: Mapping[str, nn.Parameter],
    losses: RepeatableLosses,
    step: float,
) -> Products:
    """Compute all pairs of a group: `effect[j][a]` is what step a of task j does to every batch of every task."""
    moved, k = {name: parameters[name] for name in group.parameters}, len(tasks)
    gradients = _gradients(tasks, group, moved, losses)
    norms = [[norm(g, group) for g in of_task] for of_task in gradients]
    check(tasks, [group], {group: norms})
    before, effects = _values(k, losses), list[list[list[np.ndarray]]]()
    for j, of_task in enumerate(gradients):
        effects.append([])
        for g, length in zip(of_task, norms[j], strict=True):
            with _moved(moved, g, -step / length if length else 0.0):
                after = _values(k, losses)
            effects[j].append([(old - new) / step for old, new in zip(before, after, strict=True)])
    felt, done = [], []
    for i in range(k):
        pairs = [np.array([effect[i] for effect in effects[j]]) for j in range(k)]  # [j]: (n of j, n of i)
        others = [np.ones_like(pair) - (np.eye(len(pair)) if j == i else 0.0) for j, pair in enumerate(pairs)]
        felt.append([np.average(pair, axis=0, weights=weight) for pair, weight in zip(pairs, others, strict=True)])
        done.append([np.average(pair, axis=1, weights=weight) for pair, weight in zip(pairs, others, strict=True)])
    return Products(norm_Kn=[np.array(norm_n) for norm_n in norms], felt_KKn=felt, done_KKn=done)


def _gradients(
    tasks: Sequence[str], group: ParameterGroup, parameters: Mapping[str, nn.Parameter], losses: RepeatableLosses
) -> list[list[Gradient]]:
    """The gradients of all batches, a list per task: few batches are meant, so they are all held."""
    gradients: list[list[Gradient]] = [[] for _ in tasks]
    for batch in losses():
        g = gradient(batch.loss, parameters)
        refuse_not_finite(norm(g, group), tasks[batch.task], batch.batch, group)
        gradients[batch.task].append(g)
    return gradients


@torch.no_grad()
def _values(k: int, losses: RepeatableLosses) -> list[np.ndarray]:
    """The losses of all batches, an array per task."""
    values: list[list[float]] = [[] for _ in range(k)]
    for batch in losses():
        values[batch.task].append(float(batch.loss))
    return [np.array(value_n) for value_n in values]


@contextmanager
def _moved(parameters: Mapping[str, nn.Parameter], along: Gradient, length: float) -> Iterator[None]:
    """The parameters moved along a gradient; afterwards they are what they were, bit for bit."""
    kept = {name: parameters[name].detach().clone() for name in along}
    with torch.no_grad():
        for name, value in along.items():
            parameters[name].add_(value, alpha=length)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in kept.items():
                parameters[name].copy_(value)
