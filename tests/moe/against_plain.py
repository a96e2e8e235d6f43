"""A fast path of the experts beside the plain loop: outputs and all gradients, in float32 and bfloat16.

Shape suffixes: T tokens, E experts, I inputs, O outputs.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from uniperceiver.moe.layer import WholeFeedForward
from uniperceiver.streams import torch_stream

# The fast path or the plain one: from x, the gate's weights (any shape) and the experts to y, (T, O).
Path = Callable[[Tensor, Tensor, Sequence[nn.Module]], Tensor]

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def linears(inputs: int, outputs: int, experts: int) -> list[nn.Module]:
    return drawn([nn.Linear(inputs, outputs) for _ in range(experts)])


def whole_ffns(width: int, experts: int) -> list[nn.Module]:
    return drawn([WholeFeedForward(width, 2 * width) for _ in range(experts)])


@torch.no_grad()
def drawn(experts: Sequence[nn.Module]) -> list[nn.Module]:
    """The same experts with parameters that are always the same."""
    stream = torch_stream(0, "experts")
    for parameter in nn.ModuleList(experts).parameters():
        parameter.uniform_(-0.5, 0.5, generator=stream)
    return list(experts)


def used_experts(experts: Sequence[nn.Module]) -> set[int]:
    """Experts of which a parameter has a gradient, be it zero."""
    return {index for index, expert in enumerate(experts) if any(each.grad is not None for each in expert.parameters())}


def assert_equal_to_plain(fast: Path, plain: Path, x_TI: Tensor, weight: Tensor, experts: list[nn.Module]) -> None:
    """The fast path gives what the plain one gives in float64: outputs, and all gradients of the same dy."""
    exact = _results(plain, x_TI.double(), weight.double(), [each.double() for each in experts], None)
    for each in experts:
        each.float()
    for dtype, tolerance in TOLERANCE.items():
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            found = _results(fast, x_TI, weight, experts, exact["y"])
        for name, wanted in exact.items():
            error = _largest(found[name] - wanted) / max(_largest(wanted), 1e-12)
            assert error <= tolerance, f"{name} of {tuple(x_TI.shape)} in {dtype}: relative error {error:.1e}"


def _results(
    path: Path, x_TI: Tensor, weight: Tensor, experts: list[nn.Module], dy_TO: Tensor | None
) -> dict[str, Tensor]:
    """The output, and the gradients for dy (None: y itself, so that no sum of products comes near zero)."""
    x_TI, weight = x_TI.clone().requires_grad_(), weight.clone().requires_grad_()
    parameters = dict(nn.ModuleList(experts).named_parameters())
    for parameter in parameters.values():
        parameter.grad = None
    y_TO = path(x_TI, weight, experts)
    if y_TO.requires_grad:  # not where there is only padding
        y_TO.backward(y_TO.detach() if dy_TO is None else dy_TO.to(y_TO.dtype))
    gradients = {name: _or_zeros(parameter).flatten() for name, parameter in parameters.items()}
    return {
        "y": y_TO.detach(),
        "x": _or_zeros(x_TI),
        "gate": _or_zeros(weight),
        "weights": torch.cat([value for name, value in gradients.items() if name.endswith("weight")]),
        "biases": torch.cat([value for name, value in gradients.items() if name.endswith("bias")]),
    }


def _or_zeros(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def _largest(tensor: Tensor) -> float:
    return float(tensor.abs().max()) if tensor.numel() else 0.0
