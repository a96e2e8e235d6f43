"""What a method of multi-task optimisation may do: three functions, each of which may stay as it is."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from uniperceiver.config import OptimiserConfig, TaskBalanceConfig
from uniperceiver.optimisation.balance.task_gradients import TaskGradients
from uniperceiver.optimisation.optimisers import OPTIMISERS
from uniperceiver.streams import numpy_stream


@dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """What a method knows of a task before training."""

    loss_weight: float = 1.0
    share: float  # sampling ratio; those of all tasks add up to 1


@dataclass(frozen=True, kw_only=True)
class Updated:
    """A step whose update has been made; `losses` are means over a task's batches, without its `loss_weight`."""

    losses: Mapping[str, float]  # of the tasks drawn, before the update
    again: Callable[[], Mapping[str, float]]  # computes the losses of the same batches at the new weights
    gradients: TaskGradients | None = None  # before the update; only where the method needs them


class Method:
    """How several tasks share an update. By itself: the mean of the draws, each times its task's `loss_weight`.

    Whatever a method does, `loss_weight` stays a factor on the loss that gradients are taken of. A method changes its
    state in `after_step` only, so a step without an update leaves it alone.

    Args:
        tasks: all tasks of the run, by name.
        seed: of the run; what is random is a function of it and the step.
    """

    needs_gradients: ClassVar[bool] = False
    """Whether `combine` wants the gradient of each task of a step; K tasks then take the memory of K more gradients."""
    needs_losses: ClassVar[bool] = False
    """Whether `weights` wants the losses of a step; the graphs of all its batches are then kept until the backward."""
    several_at_once: ClassVar[bool] = False
    """Whether it is about several tasks at the same weights, so that a step must be able to draw several."""
    one_at_once: ClassVar[bool] = False
    """Whether each step must have one task only."""
    least_tasks: ClassVar[int] = 2
    """Tasks that a run must have for it to mean anything."""
    steady_shares: ClassVar[bool] = False
    """Whether it counts on one sampling ratio of each task in the whole run."""
    clips: ClassVar[bool] = True
    """Whether `optimiser.clip` holds for the gradients that it combines."""

    def __init__(self, tasks: Mapping[str, TaskFacts], config: TaskBalanceConfig, seed: int) -> None:
        self.tasks, self.config, self.seed = dict(tasks), config, seed

    def weights(self, losses: Mapping[str, float], step: int) -> Mapping[str, float]:
        """Factors on the tasks' losses in this step, most often of a mean near 1; a task without one has 1.

        Args:
            losses: of the tasks drawn, where the method needs them, else empty.
        """
        return {}

    def combine(self, gradients: TaskGradients, step: int) -> dict[str, Tensor]:
        """One gradient out of those of the tasks, as new tensors in the scale of their mean.

        Only called where the method needs gradients, and if all of them are finite.
        """
        return gradients.mixed(dict.fromkeys(gradients.tasks, 1.0 / len(gradients.tasks)))

    def after_step(self, updated: Updated) -> None:
        """Learn from a step whose update has been made."""

    def optimiser(self, model: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
        """The optimiser of a run: here the one that the recipe names."""
        return OPTIMISERS[config.kind](model, config)

    def prepare(self, optimiser: torch.optim.Optimizer, drawn: Collection[str]) -> None:
        """Tell the optimiser what it must know of the tasks of the step before it updates."""

    def shown(self) -> Mapping[str, float]:
        """Learnt weights by task, as they are logged."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint saves, by names that contain the task's."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""

    def stream(self, step: int) -> np.random.Generator:
        """The random stream of a step."""
        return numpy_stream(self.seed, "balance", step)


class Fixed(Method):
    """gradient = mean over the draws of ω_k ∇L_k, with ω_k = `loss_weight`.

    Source: "In Defense of the Unitary Scalarization for Deep Multi-Task Learning" (arXiv 2201.04122).
    """

    least_tasks: ClassVar[int] = 1
