"""Task-balanced gradient normalisation (Uni-Perceiver v2), for one task per step, and the AdamW that goes with it.

Shape suffixes: K tasks.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from uniperceiver.config import OptimiserConfig
from uniperceiver.optimisation.adamw import parameter_groups
from uniperceiver.optimisation.balance.method import Method
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
    steady_shares: ClassVar[bool] = True
    clips: ClassVar[bool] = False

    def combine(self, gradients: TaskGradients, step: int) -> dict[str, Tensor]:
        (task,), norm = gradients.tasks, float(gradients.norms_K[0])
        return gradients.mixed({task: self.tasks[task].loss_weight / norm if norm else 0.0})

    def optimiser(self, model: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
        return SharedAdamW(
            parameter_groups(model, config),
            [facts.share for facts in self.tasks.values()],
            config,
            floor=self.config.floor,
            cap=self.config.cap,
        )

    def prepare(self, optimiser: torch.optim.Optimizer, drawn: Collection[str]) -> None:
        (task,) = drawn
        for group in optimiser.param_groups:
            group["task"] = list(self.tasks).index(task)


class SharedAdamW(torch.optim.Optimizer):
    """AdamW with m ← β1 m + (1 − β1) g / s and n ← β2 n + (1 − β2) g² / s; with s = 1 it is AdamW.

    s is the sampling ratio of the step's task among the tasks that have touched the parameter so far. A parameter
    without a gradient is left alone, with its moments: its clock stands still, as for experts in all of this library.
    So what belongs to one task alone has s = 1, and plain AdamW, however rare the task is; what all share has s_k.

    Two guards against spikes. Where a rare task alone moves a shared number, as the vector of a word that only it uses,
    its first step after a long time is (1 − β1) / sqrt((1 − β2) s) learning rates long: 32 for s = 0.01 and betas of
    0.9 and 0.999. `floor` is the least s that is divided by; `cap` limits the root mean square of m / (sqrt(n) + ε)
    over each parameter tensor, which is then scaled down. 0 turns either off. β2 = 0.95 helps, too.

    Each group's "task", the index of the step's task, must be set before each step.

    Args:
        shares: sampling ratio of each task.

    State of each parameter: exp_avg, exp_avg_sq and step as in torch's AdamW, and touched_K, whether a task has given
    it a gradient yet.

    Source: Li et al., "Uni-Perceiver v2" (arXiv 2211.09808), section 4.4, where nothing is said of bias correction and
    weight decay (as in AdamW here), of parameters that a task does not touch, or of guards.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        shares: Sequence[float],
        config: OptimiserConfig,
        *,
        floor: float,
        cap: float,
    ) -> None:
        self._shares_K = torch.tensor(shares, dtype=torch.float64)
        self._floor, self._cap = floor, cap
        super().__init__(list(groups), {"lr": config.lr, "betas": config.betas, "eps": config.eps, "task": 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None, "losses are not computed here"
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self._update(parameters, group)

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        states = [self._begun(parameter, group["task"]) for parameter in parameters]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        drawn, shares_K = self._shares_K[group["task"]], self._shares_K
        shares = [max(float(drawn / (state["touched_K"].double() @ shares_K)), self._floor) for state in states]
        counts = [float(state["step"]) for state in states]
        first, second = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq"))
        beta1, beta2 = group["betas"]
        torch._foreach_mul_(first, beta1)
        torch._foreach_add_(first, torch._foreach_mul(gradients, [(1 - beta1) / share for share in shares]))
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, [(1 - beta2) / share for share in shares])
        lengths = torch._foreach_sqrt(second)
        torch._foreach_div_(lengths, [(1 - beta2**count) ** 0.5 for count in counts])
        torch._foreach_add_(lengths, group["eps"])
        updates = torch._foreach_div(first, lengths)
        torch._foreach_div_(updates, [1 - beta1**count for count in counts])
        self._limit(updates)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, updates, alpha=-group["lr"])

    def _begun(self, parameter: Tensor, task: int) -> dict[str, Tensor]:
        """The parameter's state, in which this step is counted."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["touched_K"] = torch.zeros(len(self._shares_K))
        for name in ("step", "touched_K"):  # a restored state may lie elsewhere, where reading it would wait each time
            state[name] = state[name].cpu()
        state["step"] += 1
        state["touched_K"][task] = 1.0
        return state

    def _limit(self, updates: tuple[Tensor, ...]) -> None:
        if self._cap > 0:
            norms = torch.stack(list(torch._foreach_norm(updates))).tolist()
            sizes = [update.numel() ** 0.5 for update in updates]
            factors = [
                min(1.0, self._cap * size / norm) if norm else 1.0 for norm, size in zip(norms, sizes, strict=True)
            ]
            torch._foreach_mul_(updates, factors)
