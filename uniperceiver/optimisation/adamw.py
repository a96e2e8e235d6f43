"""AdamW with the original release's parameter groups, its schedule, and the moving average of the weights."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw as fused_adamw

from uniperceiver.config import OptimiserConfig
from uniperceiver.parallel.parts import is_part, local, part_like

# In the names of parameters that may learn at a rate of their own:
_GATES = ".router."
_BODY = ".backbone.body."


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies: linear maps and convolutions except in gates; as in the original release.

    So not norms, biases, embeddings or temperatures.
    """
    return parameter.ndim in (2, 4) and name.endswith(".weight") and _GATES not in name


def adamw(model: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW over the groups of `parameter_groups`.

    Fused: on CPUs a step takes a seventh of the time of the loop over parameters (docs/performance.md).
    """
    groups = parameter_groups(model, config)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def parameter_groups(model: nn.Module, config: OptimiserConfig) -> list[dict[str, Any]]:
    """The trainable parameters with and without weight decay; what learns at a rate of its own stands apart."""
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {(1.0, True, False): [], (1.0, False, False): []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = config.gate_lr if _GATES in name else config.backbone_lr if _BODY in name else 1.0
            # Of several tensors that are updated at once all are parts of such that processes share, or none is.
            groups.setdefault((rate, decays(name, parameter), is_part(parameter)), []).append(parameter)
    return [
        group_of(parameters, config.weight_decay if has_decay else 0.0, rate)
        for (rate, has_decay, _), parameters in groups.items()
    ]


def group_of(parameters: list[nn.Parameter], weight_decay: float, lr_factor: float = 1.0) -> dict[str, Any]:
    """A group of parameters, whose learning rate is `lr_factor` times that of the step."""
    return {"params": parameters, "weight_decay": weight_decay, "lr_factor": lr_factor}


def update(
    parameters: list[Tensor],
    gradients: list[Tensor],
    first: list[Tensor],
    second: list[Tensor],
    steps: list[Tensor],
    settings: Mapping[str, Any],
    lr: float,
) -> None:
    """A step of torch's fused AdamW, in place, for optimisers that keep its moments themselves.

    Args:
        settings: of the group: betas, eps and weight decay.
    """
    fused_adamw(
        parameters,
        gradients,
        first,
        second,
        [],
        steps,
        fused=True,
        amsgrad=False,
        beta1=settings["betas"][0],
        beta2=settings["betas"][1],
        lr=lr,
        weight_decay=settings["weight_decay"],
        eps=settings["eps"],
        maximize=False,
    )


def learning_rate(step: int, steps: int, config: OptimiserConfig) -> float:
    """Linear warm-up from 0, then half a cosine from `lr` down to `min_lr` at the last step."""
    if step < config.warmup:
        return config.lr * step / config.warmup
    progress = min((step - config.warmup) / max(steps - config.warmup, 1), 1.0)
    return max(0.5 * (1.0 + math.cos(math.pi * progress)) * config.lr, min(config.min_lr, config.lr))


def optimiser_tensors(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by parameter name, e.g. "exp_avg/head.linear.weight"."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{key}/{names[parameter]}": value
        for parameter, state in optimiser.state.items()
        for key, value in state.items()
    }


def restore_optimiser(model: nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` saved; parameters that had no state get none."""
    parameters = dict(model.named_parameters())
    optimiser.state.clear()
    for full_name, value in tensors.items():
        key, name = full_name.rsplit("/", 1)  # a key may name a task, and so hold slashes
        parameter = parameters[name]
        value = part_like(value.to(parameter.device), parameter)  # the fused one keeps `step` there too
        optimiser.state[parameter][key] = value.clone()


@torch.no_grad()
def average_into(average: dict[str, Tensor], model: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * weights."""
    weights = dict(model.named_parameters())
    own = [local(average[name]) for name in weights]
    torch._foreach_lerp_(own, [local(weight) for weight in weights.values()], 1.0 - decay)
