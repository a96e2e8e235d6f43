"""Dot products of batch gradients with mean gradients: all that is kept of the gradients themselves.

Notation: g_i^b is the gradient of task i's loss on its batch b, u_i^b = g_i^b / ||g_i^b|| the step of length one that
the batch asks for; the means over n batches are g_i and u_i. All batches are gone through again for each kind of mean,
so that besides the gradient at hand and its loss only one mean per task is held, however many batches there are.

Shape suffixes: K tasks, n batches of a task.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from uniperceiver.errors import UserError
from uniperceiver.interference.gradients import Gradient, add, dot, gradient, norm
from uniperceiver.interference.groups import ParameterGroup


@dataclass(frozen=True, kw_only=True)
class TaskLoss:
    """The loss of one batch of one task, with its graph."""

    task: int
    batch: str  # what to call it in a message
    loss: Tensor


# The same batches in the same order, whenever it is called; losses are computed when they are asked for.
RepeatableLosses = Callable[[], Iterable[TaskLoss]]


@dataclass(frozen=True, kw_only=True)
class Products:
    """Dot products of gradients on a group of parameters: a list per task, an entry per batch."""

    norm_Kn: Sequence[np.ndarray]  # ||g_i^b||
    felt_KKn: Sequence[Sequence[np.ndarray]]  # [i][j][b] = u_j . g_i^b: how batch b of i feels the mean step of j
    done_KKn: Sequence[Sequence[np.ndarray]] | None  # [i][j][a] = u_j^a . g_i: what step a of j does to i on average


def products(
    tasks: Sequence[str],
    groups: Sequence[ParameterGroup],
    parameters: Mapping[str, nn.Parameter],
    losses: RepeatableLosses,
    *,
    both_sides: bool = True,
) -> dict[ParameterGroup, Products]:
    """Compute the dot products of every pair of tasks in every group; where a task is compared with itself, without the
    term of a batch with itself.

    Args:
        tasks: names for messages.
        parameters: of the model, by name; those of the groups are looked at.
        both_sides: also what single steps do, which intervals need; twice as many passes.

    Raises:
        UserError: a task without a gradient on a group, or with fewer than two batches; a gradient that is not finite.
    """
    measured = {name: parameters[name] for group in groups for name in group.parameters}
    means, norms = _means(tasks, groups, measured, losses, unit=True)
    felt = _against(means, groups, norms, measured, losses, of_units=False)
    done = None
    if both_sides:
        del means
        means, norms = _means(tasks, groups, measured, losses, unit=False)
        done = _against(means, groups, norms, measured, losses, of_units=True)
    return {
        group: Products(
            norm_Kn=[np.array(norm_n) for norm_n in norms[group]],
            felt_KKn=felt[group],
            done_KKn=None if done is None else [list(column) for column in zip(*done[group], strict=True)],
        )
        for group in groups
    }


Norms = dict[ParameterGroup, list[list[float]]]


def _means(
    tasks: Sequence[str],
    groups: Sequence[ParameterGroup],
    parameters: Mapping[str, nn.Parameter],
    losses: RepeatableLosses,
    *,
    unit: bool,
) -> tuple[list[Gradient], Norms]:
    """The mean of each task's gradients, or of its unit steps, and the length of every single gradient."""
    means: list[Gradient] = [{} for _ in tasks]
    norms: Norms = {group: [[] for _ in tasks] for group in groups}
    for batch in losses():
        g = gradient(batch.loss, parameters)
        for group in groups:
            length = norm(g, group)
            refuse_not_finite(length, tasks[batch.task], batch.batch, group)
            norms[group][batch.task].append(length)
            add(means[batch.task], g, group, (1.0 / length if length else 0.0) if unit else 1.0)
    check(tasks, groups, norms)
    for mean, counts in zip(means, norms[groups[0]], strict=True):
        for value in mean.values():
            value.div_(len(counts))
    return means, norms


def refuse_not_finite(length: float, task: str, batch: str, group: ParameterGroup) -> None:
    """Refuse a gradient whose length is not finite.

    Raises:
        UserError: it is not finite.
    """
    if not math.isfinite(length):
        raise UserError(
            f"task {task!r}, {batch}: its gradient on {group.name} is not finite; leave the batch out, or measure "
            "at an earlier checkpoint"
        )


def check(tasks: Sequence[str], groups: Sequence[ParameterGroup], norms: Norms) -> None:
    """Refuse a task that has fewer than two batches, or does not use a group.

    Raises:
        UserError: there is such a task.
    """
    for index, task in enumerate(tasks):
        if len(norms[groups[0]][index]) < 2:
            raise UserError(f"task {task!r}: two batches or more are needed; ask for more of them, or for smaller ones")
        for group in groups:
            if not any(norms[group][index]):
                raise UserError(
                    f"task {task!r}: has no gradient on {group.name}; choose parameters that all tasks use, or leave "
                    "the task out"
                )


def _against(
    means: Sequence[Gradient],
    groups: Sequence[ParameterGroup],
    norms: Norms,
    parameters: Mapping[str, nn.Parameter],
    losses: RepeatableLosses,
    *,
    of_units: bool,
) -> dict[ParameterGroup, list[list[np.ndarray]]]:
    """[group][i][j][b]: dot product of g_i^b (or of u_i^b) with the mean of task j, without b's own part in it."""
    dots: dict[ParameterGroup, list[list[list[float]]]] = {
        group: [[[] for _ in means] for _ in means] for group in groups
    }
    for batch in losses():
        g = gradient(batch.loss, parameters)
        for group in groups:
            number = len(dots[group][batch.task][0])
            length, count = norms[group][batch.task][number], len(norms[group][batch.task])
            for other, mean in enumerate(means):
                value = dot(mean, g, group)
                if other == batch.task:
                    # The batch's own part of the mean, u.g or g.g, is its length or that squared.
                    own = length**2 if of_units else length
                    value = (count * value - own) / (count - 1)
                dots[group][batch.task][other].append((value / length if length else 0.0) if of_units else value)
    return {group: [[np.array(dot_n) for dot_n in row] for row in rows] for group, rows in dots.items()}
