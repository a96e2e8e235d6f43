"""Muon for the encoder's matrices and the kernels of convolutions, AdamW for everything else, as one optimiser.

Shape suffixes: M matrices of one shape, O outputs, I inputs.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from uniperceiver.config import OptimiserConfig
from uniperceiver.optimisation.adamw import decays, group_of, parameter_groups, update

_MOMENTUM = 0.95
_POLYNOMIAL = (3.4445, -4.7750, 2.0315)  # whose slope at 0 is largest among those that stay near 1
_ITERATIONS = 5
_OF_ADAMW = 0.2  # root mean square of an update of AdamW, from experience


def muon(model: nn.Module, config: OptimiserConfig) -> "MuonAdamW":
    """Muon for the matrices of the encoder's linears, but for those of gates, and for kernels; AdamW for the rest.

    Linear input and output layers, norms, embeddings and gates are no maps between features of the model, which is what
    Muon is about. The kernels of a stem are such maps but for the first, which does well with it, too.
    """
    matrices = [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and decays(name, parameter) and (name.startswith("encoder.") or parameter.ndim == 4)
    ]
    taken = set(matrices)
    rest = [
        {**others, "params": [parameter for parameter in others["params"] if parameter not in taken]}
        for others in parameter_groups(model, config)
    ]
    matrix_group = {**group_of(matrices, config.weight_decay, config.muon_lr), "orthogonal": True}
    return MuonAdamW([*rest, matrix_group], config)


class MuonAdamW(torch.optim.Optimizer):
    """W ← W − α (0.2 sqrt(max(O, I)) orthogonal(μ m + (1 − μ) g) + λ W) for the groups with "orthogonal"; else AdamW.

    A kernel is taken as a matrix of its outputs and all that each of them sees.

    m ← μ m + (1 − μ) g is the momentum, μ = 0.95 (Nesterov's form). `orthogonal` makes all singular values about 1, so
    rare directions of the gradient count as much as frequent ones; with the factor an update is as large as AdamW's,
    and one learning rate serves both. A parameter without a gradient is left alone, with its momentum, as experts are
    that nobody chose.

    State of each parameter: momentum; or exp_avg, exp_avg_sq and step as in torch's AdamW.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); the factor: Liu et al.,
    "Muon is Scalable for LLM Training" (arXiv 2502.16982), section 2.2.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], config: OptimiserConfig) -> None:
        defaults = {"lr": config.lr, "betas": config.betas, "eps": config.eps, "orthogonal": False}
        super().__init__(list(groups), defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None, "losses are not computed here"
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                (self._by_muon if group["orthogonal"] else self._by_adamw)(parameters, group)

    def _by_muon(self, parameters: list[Tensor], settings: dict[str, Any]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum" not in state:  # it is new, or a kernel that an older version's AdamW has updated
                momentum = state.get("exp_avg")
                state.clear()
                state["momentum"] = torch.zeros_like(parameter) if momentum is None else momentum
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - _MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, _MOMENTUM)
        torch._foreach_mul_(parameters, 1 - settings["lr"] * settings["weight_decay"])
        by_shape: defaultdict[torch.Size, list[int]] = defaultdict(list)
        for place, parameter in enumerate(parameters):
            by_shape[parameter.shape].append(place)
        for shape, places in by_shape.items():
            ahead_MOI = torch.stack([ahead[place].flatten(1) for place in places])
            updates = orthogonal(ahead_MOI).to(parameters[0].dtype).view(-1, *shape).unbind()
            size = settings["lr"] * _OF_ADAMW * max(ahead_MOI.shape[1:]) ** 0.5
            torch._foreach_add_([parameters[place] for place in places], list(updates), alpha=-size)

    def _by_adamw(self, parameters: list[Tensor], settings: dict[str, Any]) -> None:
        for parameter in parameters:
            if not (state := self.state[parameter]):
                state["step"] = torch.zeros((), device=parameter.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        first, second, steps = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
        update(parameters, gradients, first, second, steps, settings, settings["lr"])


def orthogonal(matrix_MOI: Tensor) -> Tensor:
    """U V' of each matrix U S V', (M, O, I), nearly: singular values come near 1, but for those that are tiny.

    Newton-Schulz iterations of X ← P(X X') X with P(G) = a I + b G + c G², all matrices at once. On a GPU they are made
    on X itself in bfloat16, for which they are meant; elsewhere in float32 on the smaller G ← P(G)² G alone, and X is
    multiplied by the product of all P(G) at the end: half of the time, and equal to 1e-3 also of matrices whose
    singular values lie a factor of 10⁶ apart.
    """
    x = matrix_MOI.bfloat16() if matrix_MOI.is_cuda else matrix_MOI.float()
    is_tall = x.shape[-2] > x.shape[-1]
    x = x.mT if is_tall else x
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    x = _iterated(x) if x.is_cuda else _product_of_iterations(x @ x.mT) @ x
    return x.mT if is_tall else x


def _iterated(x_MOI: Tensor) -> Tensor:
    """X after all iterations, O being at most I."""
    for _ in range(_ITERATIONS):
        x_MOI = _polynomial(x_MOI @ x_MOI.mT) @ x_MOI
    return x_MOI


def _product_of_iterations(gram_MOO: Tensor) -> Tensor:
    """What the iterations multiply X by, from X X'; all factors are polynomials of it, so their order is free."""
    product = _polynomial(gram_MOO)
    factor = product
    for _ in range(_ITERATIONS - 1):
        gram_MOO = factor @ (factor @ gram_MOO)
        factor = _polynomial(gram_MOO)
        product = factor @ product
    return product


def _polynomial(gram_MOO: Tensor) -> Tensor:
    a, b, c = _POLYNOMIAL
    value = torch.baddbmm(gram_MOO, gram_MOO, gram_MOO, beta=b, alpha=c)
    value.diagonal(dim1=-2, dim2=-1).add_(a)
    return value
