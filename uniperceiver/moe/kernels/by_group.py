"""Experts that are the same for all tokens of a segment group: merged into one weight, then one product per span.

y = sum_e g_e W_e x = (sum_e g_e W_e) x, so the cost is that of a dense layer and one pass over the chosen weights.

Shape suffixes: T tokens, I inputs, O outputs, G segment groups, k choices.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uniperceiver.precision import at_least_float32

Span = tuple[int, int, int]  # start and stop among the T tokens, segment group


def merge(tensors: Sequence[Tensor], weight_k: Iterable[float] | None) -> Tensor:
    """sum_e g_e A_e of Eq. 4 for one group; without weights there is a single tensor."""
    if weight_k is None:
        (tensor,) = tensors
        return tensor
    first, *rest = map(float, weight_k)
    if len(rest) == 1 and abs(first + rest[0] - 1.0) < 1e-6:  # one pass over the memory, where the sum takes two
        return torch.lerp(tensors[0], tensors[1], rest[0])
    merged = tensors[0] * first
    for tensor, weight in zip(tensors[1:], rest, strict=True):
        merged.add_(tensor, alpha=weight)
    return merged


def apply_merged(x_TI: Tensor, spans: Sequence[Span], merged: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Each span of tokens through the weight and bias of its group, (T, O), without autograd."""
    if len(spans) == 1:
        weight, bias = merged[spans[0][2]]
        return F.linear(x_TI, weight.to(x_TI.dtype), bias.to(x_TI.dtype))
    y_TO = x_TI.new_empty(x_TI.shape[0], merged[0][0].shape[0])
    for start, stop, group in spans:
        weight, bias = merged[group]
        torch.addmm(bias.to(x_TI.dtype), x_TI[start:stop], weight.to(x_TI.dtype).t(), out=y_TO[start:stop])
    return y_TO


def merged_linear(
    x_TI: Tensor,
    spans: Sequence[Span],
    chosen: Sequence[Sequence[int]],
    weight_Gk: Tensor | None,
    value_Gk: Sequence[Sequence[float]] | None,
    experts: Sequence[nn.Linear],
) -> Tensor:
    """(T, O) with gradients: experts `chosen[group]`, weighted by weight_Gk[group], for the tokens of a group's spans.

    Only chosen experts are part of the graph, so others get no gradient at all. Every group has a span.

    Args:
        weight_Gk: for the gradient. None: each group has a single expert, whole.
        value_Gk: the same as numbers, with which tensors are scaled faster.
    """
    kind = x_TI.device.type
    if torch.is_autocast_enabled(kind):
        x_TI = x_TI.to(torch.get_autocast_dtype(kind))
    used = list(dict.fromkeys(expert for expert_k in chosen for expert in expert_k))
    places = [[used.index(expert) for expert in expert_k] for expert_k in chosen]
    linears = [experts[index] for index in used]
    parameters = [linear.weight for linear in linears] + [linear.bias for linear in linears]
    result: Tensor = _MergeThenMultiply.apply(x_TI, spans, places, weight_Gk, value_Gk, *parameters)
    return result


class _MergeThenMultiply(torch.autograd.Function):
    """Keeps one merged copy per group for the backward pass, and shares its gradient among the group's experts."""

    @staticmethod
    def forward(
        ctx: Any,
        x_TI: Tensor,
        spans: Sequence[Span],
        chosen: Sequence[Sequence[int]],
        weight_Gk: Tensor | None,
        value_Gk: Sequence[Sequence[float]] | None,
        *parameters: Tensor,
    ) -> Tensor:
        half = len(parameters) // 2
        weights, biases = parameters[:half], parameters[half:]
        merged = []
        for group, expert_k in enumerate(chosen):
            value_k = None if value_Gk is None else value_Gk[group]
            weight = merge([weights[expert] for expert in expert_k], value_k).to(x_TI.dtype)
            merged.append((weight, merge([biases[expert] for expert in expert_k], value_k)))
        ctx.spans, ctx.chosen, ctx.value_Gk = spans, chosen, value_Gk
        ctx.save_for_backward(x_TI, *(weight for weight, _ in merged), *parameters)
        return apply_merged(x_TI, spans, merged)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        dy_TO, (x_TI, *rest) = gradients[0], ctx.saved_tensors
        merged, parameters = rest[: len(ctx.chosen)], rest[len(ctx.chosen) :]
        half = len(parameters) // 2
        dx_TI = _through_merged(dy_TO, ctx.spans, merged) if ctx.needs_input_grad[0] else None
        shared: list[Tensor | None] = [None] * len(parameters)
        dweight_G = []
        for group, experts in enumerate(ctx.chosen):
            value_k = [1.0] if ctx.value_Gk is None else ctx.value_Gk[group]
            parts = [(dy_TO[start:stop], x_TI[start:stop]) for start, stop, owner in ctx.spans if owner == group]
            dmerged = at_least_float32(_sum(dy.t() @ x for dy, x in parts))
            dbias = at_least_float32(_sum(dy.sum(dim=0) for dy, _ in parts))
            if ctx.needs_input_grad[3]:
                dots = [torch.dot(dmerged.flatten(), parameters[expert].flatten()) for expert in experts]
                dots_of_biases = torch.mv(torch.stack([parameters[half + expert] for expert in experts]), dbias)
                dweight_G.append(torch.stack(dots) + dots_of_biases)
            _share(dmerged, experts, value_k, shared)
            _share(dbias, [half + expert for expert in experts], value_k, shared)
        return dx_TI, None, None, torch.stack(dweight_G) if dweight_G else None, None, *shared


def _through_merged(dy_TO: Tensor, spans: Sequence[Span], weights: Sequence[Tensor]) -> Tensor:
    """The gradient of the tokens, (T, I)."""
    if len(spans) == 1:
        return dy_TO @ weights[spans[0][2]]
    dx_TI = dy_TO.new_empty(dy_TO.shape[0], weights[0].shape[1])
    for start, stop, group in spans:
        torch.mm(dy_TO[start:stop], weights[group], out=dx_TI[start:stop])
    return dx_TI


def _sum(tensors: Iterable[Tensor]) -> Tensor:
    total, *rest = tensors
    for tensor in rest:
        total += tensor
    return total


def _share(gradient: Tensor, which: Sequence[int], value_k: Sequence[float], shared: list[Tensor | None]) -> None:
    """Add g_e times the gradient of sum_e g_e A_e to the shares of the A_e; the gradient is overwritten."""
    for index, value in reversed(list(zip(which, value_k, strict=True))):
        present = shared[index]
        if present is not None:
            present.add_(gradient, alpha=value)
        elif index == which[0]:
            shared[index] = gradient if value == 1.0 else gradient.mul_(value)
        else:
            shared[index] = gradient * value


def functions_of_groups(
    x_TI: Tensor,
    spans: Sequence[Span],
    chosen: Sequence[Sequence[int]],
    weight_Gk: Tensor | None,
    experts: Sequence[Callable[[Tensor], Tensor]],
) -> Tensor:
    """y = sum_e g_e expert_e(x) of every token, (T, O), for experts with a nonlinearity, which do not merge."""
    parts = []
    for start, stop, group in spans:
        results = [experts[expert](x_TI[start:stop]) for expert in chosen[group]]
        if weight_Gk is None:
            parts += results
        else:
            weighted = [y * weight.to(y.dtype) for y, weight in zip(results, weight_Gk[group], strict=True)]
            parts.append(torch.stack(weighted).sum(dim=0))
    return torch.cat(parts)
