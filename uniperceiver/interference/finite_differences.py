"""Interference by taking the steps: losses before and after, with no gradient of the affected task.

The plain second way to the same numbers: n batches of K tasks cost K n passes over all of them, where gradients cost
four. In float64 and with small steps both agree; with large ones this is what a step really does.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from uniperceiver.interference.gradients import Gradient, gradient, norm
from uniperceiver.interference.groups import Group
from uniperceiver.interference.products import Products, Replay

STEP = 1e-6  # in float64: far above the noise of rounding, far below what curvature bends


def finite_differences(
    tasks: Sequence[str],
    groups: Sequence[Group],
    parameters: Mapping[str, nn.Parameter],
    replay: Replay,
    *,
    step: float = STEP,
) -> dict[Group, Products]:
    """Eq. 1 as it is written: (L_i(theta) - L_i(theta - step u_j^a)) / step of every pair of batches in every group.

    Args:
        tasks: names of the tasks; two batches of each, or more.
        parameters: of the model, by name, in float64; they are moved, and put back.
        step: length of a step.
    """
    return {group: _of_group(len(tasks), group, parameters, replay, step) for group in groups}


def _of_group(k: int, group: Group, parameters: Mapping[str, nn.Parameter], replay: Replay, step: float) -> Products:
    """All pairs of one group: `effect[j][a]` is what step a of task j does to every batch of every task."""
    wanted = {name: parameters[name] for name in group.parameters}
    before = _losses(k, replay)
    counts = list(map(len, before))
    norms, effects = [[0.0] * count for count in counts], [[before] * count for count in counts]
    for j, a in [(task, batch) for task in range(k) for batch in range(counts[task])]:
        g = _gradient_of(replay, j, a, wanted)
        norms[j][a] = length = norm(g, group)
        with _moved(wanted, g, -step / length if length else 0.0):
            after = _losses(k, replay)
        effects[j][a] = [(old - new) / step for old, new in zip(before, after, strict=True)]
    felt, done = [], []
    for i in range(k):
        pairs = [np.array([effects[j][a][i] for a in range(counts[j])]) for j in range(k)]  # [j]: (n of j, n of i)
        others = [np.ones_like(each) - (np.eye(len(each)) if j == i else 0.0) for j, each in enumerate(pairs)]
        felt.append([np.average(each, axis=0, weights=of) for each, of in zip(pairs, others, strict=True)])
        done.append([np.average(each, axis=1, weights=of) for each, of in zip(pairs, others, strict=True)])
    return Products(norm_Kn=[np.array(each) for each in norms], felt_KKn=felt, done_KKn=done)


@torch.no_grad()
def _losses(k: int, replay: Replay) -> list[np.ndarray]:
    """The losses of all batches, a list per task."""
    found: list[list[float]] = [[] for _ in range(k)]
    for one in replay():
        found[one.task].append(float(one.loss))
    return [np.array(each) for each in found]


def _gradient_of(replay: Replay, task: int, batch: int, wanted: Mapping[str, nn.Parameter]) -> Gradient:
    """The gradient of a task's batch of that number."""
    of_task = (one for one in replay() if one.task == task)
    chosen = next(one for place, one in enumerate(of_task) if place == batch)
    return gradient(chosen.loss, wanted)


@contextmanager
def _moved(wanted: Mapping[str, nn.Parameter], along: Gradient, length: float) -> Iterator[None]:
    """The parameters moved along a gradient; afterwards they are what they were, bit for bit."""
    kept = {name: wanted[name].detach().clone() for name in along}
    with torch.no_grad():
        for name, value in along.items():
            wanted[name].add_(value, alpha=length)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in kept.items():
                wanted[name].copy_(value)
