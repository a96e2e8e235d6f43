"""Task-balanced gradient normalisation (Uni-Perceiver v2), for one task per step."""

from collections.abc import Collection
from typing import ClassVar

import torch
from torch import Tensor, nn

from uniperceiver.config import OptimiserConfig
from uniperceiver.optimisation.adamw import parameter_groups
from uniperceiver.optimisation.balance.method import Method
from uniperceiver.optimisation.balance.shared_adamw import SharedAdamW
from uniperceiver.optimisation.balance.task_gradients import TaskGradients


class TBGN(Method):
    """g = ω_k ∇L_k / ‖∇L_k‖ for the task k of the step, and an AdamW that divides g and g² by the sampling ratio s_k.

    ω_k is `loss_weight`, the norm is that of all parameters. Both moments then do not depend on how often a task is
    drawn: E[m] = Σ_k ω_k ĝ_k. A loss weight inside the loss cancels, and so would clipping before: it is left out, as
    after it ω_k would be cut off. See `SharedAdamW` for the moments and what guards them.

    Source: Li et al., "Uni-Perceiver v2" (arXiv 2211.09808), section 4.4.
    """

    needs_gradients: ClassVar[bool] = True
    one_at_once: ClassVar[bool] = True
    least_tasks: ClassVar[int] = 1
    clips: ClassVar[bool] = False

    def combine(self, gradients: TaskGradients, step: int) -> dict[str, Tensor]:
        (task,), norm = gradients.tasks, float(gradients.norms_K[0])
        return gradients.mixed({task: self.tasks[task].loss_weight / norm if norm else 0.0})

    def optimiser(self, model: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
        return SharedAdamW(
            parameter_groups(model, config),
            [each.share for each in self.tasks.values()],
            config,
            floor=self.config.floor,
            cap=self.config.cap,
        )

    def prepare(self, optimiser: torch.optim.Optimizer, drawn: Collection[str]) -> None:
        (task,) = drawn
        for group in optimiser.param_groups:
            group["task"] = list(self.tasks).index(task)
