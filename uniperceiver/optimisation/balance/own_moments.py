"""A control: all tasks share the weights, and each keeps moments of its own, as it would with parameters of its own."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from uniperceiver.config import OptimiserConfig
from uniperceiver.optimisation.adamw import parameter_groups, update
from uniperceiver.optimisation.balance.method import Method
from uniperceiver.optimisation.balance.task_gradients import TaskGradients


class OwnMoments(Method):
    """θ ← θ − α / |drawn| Σ_k m_k / (sqrt(n_k) + ε), with AdamW's moments m_k, n_k of each task k by itself.

    Parameters of a task alone, as task_specific experts are, come with moments that no other task disturbs. This is
    that part of their advantage without the parameters. Beside the moments two things differ from `fixed`: a task that
    a step draws twice counts once, with the mean of its batches, and each task's gradient is clipped by itself. Weight
    decay is AdamW's, α / |drawn| of it with each task's step.
    """

    needs_gradients: ClassVar[bool] = True
    clips: ClassVar[bool] = False

    def combine(self, gradients: TaskGradients, step: int) -> dict[str, Tensor]:
        self._drawn = gradients
        return super().combine(gradients, step)

    def optimiser(self, model: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
        return AdamWPerTask(parameter_groups(model, config), dict(model.named_parameters()), config)

    def prepare(self, optimiser: torch.optim.Optimizer, drawn: Collection[str]) -> None:
        assert isinstance(optimiser, AdamWPerTask)
        optimiser.gradients = self._drawn.by_task

    def load(self, state: Mapping[str, Tensor]) -> None:
        assert not state, "all of its state is the optimiser's"


class AdamWPerTask(torch.optim.Optimizer):
    """AdamW with a state per task; a parameter without a gradient of a task is left alone, as its moments of that task.

    `gradients`, by task and parameter, must be set before each step.

    State of each parameter: exp_avg, exp_avg_sq and step as in torch's AdamW, with "@TASK" behind each.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], parameters: Mapping[str, nn.Parameter], config: OptimiserConfig
    ) -> None:
        self.gradients: Mapping[str, Mapping[str, Tensor]] = {}
        self._names, self._clip = {parameter: name for name, parameter in parameters.items()}, config.clip
        super().__init__(list(groups), {"lr": config.lr, "betas": config.betas, "eps": config.eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter by the mean of the steps of the tasks."""
        assert closure is None, "losses are not computed here"
        for task, by_name in self.gradients.items():
            norm = nn.utils.get_total_norm(list(by_name.values()))
            factor = min(1.0, self._clip / max(float(norm), 1e-6)) if self._clip else 1.0
            for group in self.param_groups:
                self._update(task, by_name, group, factor)
        self.gradients = {}

    def _update(self, task: str, by_name: Mapping[str, Tensor], group: dict[str, Any], factor: float) -> None:
        parameters = [parameter for parameter in group["params"] if self._names[parameter] in by_name]
        if not parameters:
            return
        states = [self._begun(parameter, task) for parameter in parameters]
        first, second, steps = (
            [state[f"{key}@{task}"] for state in states] for key in ("exp_avg", "exp_avg_sq", "step")
        )
        gradients = list(torch._foreach_mul([by_name[self._names[parameter]] for parameter in parameters], factor))
        update(parameters, gradients, first, second, steps, group, group["lr"] / len(self.gradients))

    def _begun(self, parameter: Tensor, task: str) -> dict[str, Tensor]:
        state = self.state[parameter]
        if f"step@{task}" not in state:
            state[f"exp_avg@{task}"], state[f"exp_avg_sq@{task}"] = (torch.zeros_like(parameter) for _ in range(2))
            state[f"step@{task}"] = torch.zeros((), device=parameter.device)
        return state
