"""The gradients of several tasks at the same weights, by task and parameter; nothing is copied to make them.

Shape suffixes: K tasks.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class TaskGradients:
    """The gradient of each task drawn in a step: the mean over its batches, times its `loss_weight`."""

    by_task: Mapping[str, dict[str, Tensor]]  # task -> parameter -> gradient; what a task does not touch is absent

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks in the order of their first draw: the K of `gram_KK`."""
        return tuple(self.by_task)

    @cached_property
    def gram_KK(self) -> np.ndarray:
        """float64 inner products of the tasks' gradients over all parameters; what a task does not touch counts 0."""
        gram_KK = np.zeros((len(self.tasks), len(self.tasks)))
        gradients = list(self.by_task.values())
        for row, mine in enumerate(gradients):
            for column, other in enumerate(gradients[: row + 1]):
                gram_KK[row, column] = gram_KK[column, row] = _inner(mine, other)
        return gram_KK

    @property
    def norms_K(self) -> np.ndarray:
        """float64 lengths of the tasks' gradients over all parameters."""
        return np.sqrt(np.diag(self.gram_KK))

    @property
    def finite(self) -> bool:
        """Whether every inner product is a number."""
        return bool(np.isfinite(self.gram_KK).all())

    def mixed(self, weights: Mapping[str, float]) -> dict[str, Tensor]:
        """The sum of the tasks' gradients, each times its weight, as new tensors by parameter."""
        total: dict[str, Tensor] = {}
        for task, mine in self.by_task.items():
            started = [name for name in mine if name in total]
            if started:
                others = [mine[name] for name in started]
                torch._foreach_add_([total[name] for name in started], others, alpha=weights[task])
            new = [name for name in mine if name not in total]
            if new:
                total |= zip(new, torch._foreach_mul([mine[name] for name in new], weights[task]), strict=True)
        return total


def _inner(mine: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    shared = [name for name in mine if name in other]
    if not shared:
        return 0.0
    parts = [torch.dot(mine[name].flatten(), other[name].flatten()) for name in shared]
    return float(torch.stack(parts).cpu().double().sum())


class GradientKeeper:
    """Lets each backward pass add to the gradients of its own task, instead of to those of all.

    Gradients are taken as a backward pass leaves them in the parameters: with all that a wrapper of the model did to
    them at its end, such as a mean over processes, and out of memory that the wrapper fills anew in the next pass.

    Args:
        model: the bare model.
        tasks: of the step, in the order of their first draw; a process may have no batch of some of them.
    """

    def __init__(self, model: nn.Module, tasks: Iterable[str]) -> None:
        self._model = model
        self._by_task: dict[str, dict[str, Tensor]] = {task: {} for task in tasks}

    @contextmanager
    def of(self, task: str) -> Iterator[None]:
        """While it lasts, the parameters' gradients are the task's; afterwards they are None again."""
        own = self._by_task[task]
        for name, parameter in self._model.named_parameters():
            parameter.grad = own.get(name)
        try:
            yield
        finally:
            for name, parameter in self._model.named_parameters():
                if (gradient := parameter.grad) is not None:
                    is_part = gradient.untyped_storage().nbytes() > gradient.nbytes  # of a wrapper's bucket
                    own[name] = gradient.clone() if is_part else gradient
                parameter.grad = None

    @torch.no_grad()
    def gradients(self, scale: float) -> TaskGradients:
        """What has been collected, divided in place by the scale of the losses."""
        if scale != 1.0:
            for own in self._by_task.values():
                torch._foreach_div_(list(own.values()), scale)
        return TaskGradients(by_task=self._by_task)

    @torch.no_grad()
    def put(self, gradients: Mapping[str, Tensor], scale: float) -> None:
        """Make these, times the scale of the losses, the gradients of the parameters, which keep the tensors."""
        if scale != 1.0:
            torch._foreach_mul_(list(gradients.values()), scale)
        for name, parameter in self._model.named_parameters():
            parameter.grad = gradients.get(name)
