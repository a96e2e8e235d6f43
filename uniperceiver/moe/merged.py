"""Experts that are the same for all tokens of a row: merged into one weight, then one matrix product per segment.

y = sum_e g_e W_e x = (sum_e g_e W_e) x, so the cost is that of a dense layer and one pass over the chosen weights.

Shape suffixes: T tokens, I inputs, O outputs, R rows, k choices.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

Span = tuple[int, int, int]  # start and stop among the T tokens, row


def merge(tensors: Sequence[Tensor], weight_k: Tensor | None) -> Tensor:
    """sum_e g_e A_e of Eq. 4 for one row; without weights there is a single tensor."""
    if weight_k is None:
        (only,) = tensors
        return only
    merged = tensors[0] * weight_k[0]
    for tensor, weight in zip(tensors[1:], weight_k[1:], strict=True):
        merged.addcmul_(tensor, weight)
    return merged


def apply_rows(x_TI: Tensor, spans: Sequence[Span], rows: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Each span of tokens through the weight and bias of its row, (T, O), without autograd."""
    y_TO = x_TI.new_empty(x_TI.shape[0], rows[0][0].shape[0])
    for start, stop, row in spans:
        weight, bias = rows[row]
        torch.addmm(bias.to(x_TI.dtype), x_TI[start:stop], weight.to(x_TI.dtype).t(), out=y_TO[start:stop])
    return y_TO


def merged_linear(
    x_TI: Tensor,
    spans: Sequence[Span],
    chosen: Sequence[Sequence[int]],
    weight_Rk: Tensor | None,
    experts: Sequence[nn.Linear],
) -> Tensor:
    """(T, O) with gradients: experts `chosen[row]`, weighted by weight_Rk[row], for the tokens of a span.

    Only chosen experts are part of the graph, so others get no gradient at all.
    """
    used = sorted({expert for row in chosen for expert in row})
    place = {expert: index for index, expert in enumerate(used)}
    places = tuple(tuple(place[expert] for expert in row) for row in chosen)
    kind = x_TI.device.type
    if torch.is_autocast_enabled(kind):
        x_TI = x_TI.to(torch.get_autocast_dtype(kind))
    parameters = [experts[each].weight for each in used] + [experts[each].bias for each in used]
    result: Tensor = _MergedLinear.apply(x_TI, tuple(spans), places, weight_Rk, *parameters)
    return result


class _MergedLinear(torch.autograd.Function):
    """Keeps one merged copy per row for the backward pass, and shares one gradient matrix among a row's experts."""

    @staticmethod
    def forward(
        ctx: Any,
        x_TI: Tensor,
        spans: tuple[Span, ...],
        chosen: tuple[tuple[int, ...], ...],
        weight_Rk: Tensor | None,
        *parameters: Tensor,
    ) -> Tensor:
        weights, biases = parameters[: len(parameters) // 2], parameters[len(parameters) // 2 :]
        rows = [
            tuple(
                merge([group[each] for each in row], None if weight_Rk is None else weight_Rk[index]).to(x_TI.dtype)
                for group in (weights, biases)
            )
            for index, row in enumerate(chosen)
        ]
        ctx.spans, ctx.chosen = spans, chosen
        ctx.save_for_backward(x_TI, weight_Rk, *(weight for weight, _ in rows), *parameters)
        return apply_rows(x_TI, spans, rows)  # type: ignore[arg-type]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        dy_TO = gradients[0]
        x_TI, weight_Rk, *rest = ctx.saved_tensors
        merged, parameters = rest[: len(ctx.chosen)], rest[len(ctx.chosen) :]
        dx_TI = None
        if ctx.needs_input_grad[0]:
            dx_TI = torch.empty_like(x_TI)
            for start, stop, row in ctx.spans:
                torch.mm(dy_TO[start:stop], merged[row], out=dx_TI[start:stop])
        shares = _Shares(parameters, weight_Rk)
        for row, experts in enumerate(ctx.chosen):
            spans = [(start, stop) for start, stop, owner in ctx.spans if owner == row]
            for half, gradient in enumerate(_of_row(dy_TO, x_TI, spans)):
                shares.add(row, [expert + half * (len(parameters) // 2) for expert in experts], gradient)
        return dx_TI, None, None, shares.dweight_Rk, *shares.gradients


def _of_row(dy_TO: Tensor, x_TI: Tensor, spans: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Gradients of a row's merged weight and bias, float32."""
    dweights = [dy_TO[start:stop].t() @ x_TI[start:stop] for start, stop in spans]
    dbiases = [dy_TO[start:stop].sum(dim=0) for start, stop in spans]
    for several in (dweights, dbiases):
        for more in several[1:]:
            several[0] += more
    return dweights[0].float(), dbiases[0].float()


class _Shares:
    """Splits the gradients of merged parameters among the experts, and sums up those of the gate's weights."""

    def __init__(self, parameters: Sequence[Tensor], weight_Rk: Tensor | None) -> None:
        self.parameters, self.weight_Rk = parameters, weight_Rk
        self.gradients: list[Tensor | None] = [None] * len(parameters)
        self.dweight_Rk = None if weight_Rk is None else torch.zeros_like(weight_Rk)

    def add(self, row: int, which: Sequence[int], gradient: Tensor) -> None:
        """Take in the gradient of sum_e g_e A_e, where the A_e are the parameters `which`."""
        if self.weight_Rk is None or self.dweight_Rk is None:
            self._put(which[0], gradient, None)
            return
        for choice, index in enumerate(which):
            self.dweight_Rk[row, choice] += torch.dot(gradient.flatten(), self.parameters[index].flatten())
        for choice, index in reversed(list(enumerate(which))):  # the last one overwrites `gradient`
            weight = self.weight_Rk[row, choice]
            self._put(index, gradient if choice == 0 else gradient.clone(), weight)

    def _put(self, index: int, gradient: Tensor, weight: Tensor | None) -> None:
        present = self.gradients[index]
        if present is not None:
            present.add_(gradient) if weight is None else present.addcmul_(gradient, weight)
        else:
            self.gradients[index] = gradient if weight is None else gradient.mul_(weight)
