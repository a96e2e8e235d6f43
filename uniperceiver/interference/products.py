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
from uniperceiver.interference.groups import Group


@dataclass(frozen=True, kw_only=True)
class TaskLoss:
    """The loss of one batch of one task, with its graph."""

    task: int
    batch: str  # what to call it in a message
    loss: Tensor


# The same batches in the same order, each time it is called; losses are computed when they are asked for.
Replay = Callable[[], Iterable[TaskLoss]]


@dataclass(frozen=True, kw_only=True)
class Products:
    """What is known of a group of parameters: a list per task, an entry per batch."""

    norm_Kn: Sequence[np.ndarray]  # ||g_i^b||
    felt_KKn: Sequence[Sequence[np.ndarray]]  # [i][j][b] = u_j . g_i^b: how batch b of i feels the mean step of j
    done_KKn: Sequence[Sequence[np.ndarray]] | None  # [i][j][a] = u_j^a . g_i: what step a of j does to i on average


def products(
    tasks: Sequence[str],
    groups: Sequence[Group],
    parameters: Mapping[str, nn.Parameter],
    replay: Replay,
    *,
    both_sides: bool = True,
) -> dict[Group, Products]:
    """The dot products of every pair of tasks in every group; where a task is compared with itself, without the term
    of a batch with itself.

    Args:
        tasks: names for messages.
        parameters: of the model, by name; those of the groups are looked at.
        both_sides: also what single steps do, which intervals need; twice as many passes.

    Raises:
        UserError: a task without a gradient on a group, or with fewer than two batches; a gradient that is not finite.
    """
    wanted = {name: parameters[name] for group in groups for name in group.parameters}
    means, norms = _means(tasks, groups, wanted, replay, unit=True)
    felt = _against(means, groups, norms, wanted, replay, of_units=False)
    done = None
    if both_sides:
        del means
        means, norms = _means(tasks, groups, wanted, replay, unit=False)
        done = _against(means, groups, norms, wanted, replay, of_units=True)
    return {
        group: Products(
            norm_Kn=[np.array(each) for each in norms[group]],
            felt_KKn=felt[group],
            done_KKn=None if done is None else _transposed(done[group]),
        )
        for group in groups
    }


Norms = dict[Group, list[list[float]]]


def _means(
    tasks: Sequence[str],
    groups: Sequence[Group],
    wanted: Mapping[str, nn.Parameter],
    replay: Replay,
    *,
    unit: bool,
) -> tuple[list[Gradient], Norms]:
    """The mean of each task's gradients, or of its unit steps, and the length of every single gradient."""
    means: list[Gradient] = [{} for _ in tasks]
    norms: Norms = {group: [[] for _ in tasks] for group in groups}
    for one in replay():
        g = gradient(one.loss, wanted)
        for group in groups:
            length = norm(g, group)
            refuse_not_finite(length, tasks[one.task], one.batch, group)
            norms[group][one.task].append(length)
            add(means[one.task], g, group, (1.0 / length if length else 0.0) if unit else 1.0)
    check(tasks, groups, norms)
    for mean, counts in zip(means, norms[groups[0]], strict=True):
        for value in mean.values():
            value.div_(len(counts))
    return means, norms


def refuse_not_finite(length: float, task: str, batch: str, group: Group) -> None:
    """Refuse a gradient of that length, if it is no number.

    Raises:
        UserError: it is not.
    """
    if not math.isfinite(length):
        raise UserError(
            f"task {task!r}, {batch}: its gradient on {group.name} is not finite; leave the batch out, or measure "
            "at an earlier checkpoint"
        )


def check(tasks: Sequence[str], groups: Sequence[Group], norms: Norms) -> None:
    """Every task must have two batches, and use every group.

    Raises:
        UserError: one does not.
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
    groups: Sequence[Group],
    norms: Norms,
    wanted: Mapping[str, nn.Parameter],
    replay: Replay,
    *,
    of_units: bool,
) -> dict[Group, list[list[np.ndarray]]]:
    """[group][i][j][b]: dot product of g_i^b (or of u_i^b) with the mean of task j, without b's own part in it."""
    found: dict[Group, list[list[list[float]]]] = {group: [[[] for _ in means] for _ in means] for group in groups}
    for one in replay():
        g = gradient(one.loss, wanted)
        for group in groups:
            place = len(found[group][one.task][0])
            length, count = norms[group][one.task][place], len(norms[group][one.task])
            for other, mean in enumerate(means):
                value = dot(mean, g, group)
                if other == one.task:
                    # The batch's own part of the mean, u.g or g.g, is its length or that squared.
                    own = length**2 if of_units else length
                    value = (count * value - own) / (count - 1)
                found[group][one.task][other].append((value / length if length else 0.0) if of_units else value)
    return {group: [[np.array(each) for each in row] for row in rows] for group, rows in found.items()}


def _transposed(rows: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
    return [list(column) for column in zip(*rows, strict=True)]
