"""Experts chosen token by token: each expert multiplies its own tokens, and a token's results are summed.

No token is dropped here and none is padded: an expert gets as many tokens as chose it. What is wide (the hidden
layer of an FFN) is gathered and scattered expert by expert, so that it stays in the cache; only what is narrow is held
for all assignments at once.

Shape suffixes: T tokens, E experts, e of them that got a token, A assignments (token, expert) in the order of the
experts, a those of one expert, I inputs, O outputs, X any.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uniperceiver.precision import at_least_float32


@dataclass(frozen=True, kw_only=True)
class Assignments:
    """Which token goes to which expert, sorted by expert, and where to find a token's results."""

    token_A: Tensor  # int64
    weight_A: Tensor  # float32
    counts: tuple[int, ...]  # assignments of each expert
    bag_A: Tensor  # int64, assignments sorted by token
    offset_T: Tensor  # int64, where a token's assignments begin in bag_A

    @classmethod
    def of(cls, weight_TE: Tensor, chosen_TE: Tensor) -> "Assignments":
        """From weights and the choice; tokens without an expert have no assignment."""
        expert_A, token_A = chosen_TE.t().nonzero(as_tuple=True)
        place_TE = torch.empty(chosen_TE.shape, dtype=torch.int64, device=chosen_TE.device)
        place_TE[token_A, expert_A] = torch.arange(len(token_A), device=chosen_TE.device)
        count_T = chosen_TE.sum(dim=1)
        experts = weight_TE.shape[1]
        return cls(
            token_A=token_A,
            weight_A=weight_TE.flatten().index_select(0, token_A * experts + expert_A),
            counts=tuple(chosen_TE.sum(dim=0).tolist()),
            bag_A=place_TE[chosen_TE],
            offset_T=count_T.cumsum(dim=0) - count_T,
        )

    def used(self) -> list[int]:
        """Experts that got a token."""
        return [expert for expert, count in enumerate(self.counts) if count]

    def split(self, tensor_A: Tensor) -> Iterator[Tensor]:
        """The parts of the experts that got a token."""
        return iter(tensor_A.split([count for count in self.counts if count]))

    def gather(self, x_TX: Tensor) -> Tensor:
        """The token of each assignment, (A, X)."""
        return x_TX.index_select(0, self.token_A)

    def sum(self, y_AX: Tensor, weight_A: Tensor | None = None) -> Tensor:
        """For every token the sum of its assignments' results, weighted if asked, (T, X); zero where it has none."""
        weight_A = weight_A if weight_A is None else weight_A.to(y_AX.dtype).index_select(0, self.bag_A)
        return F.embedding_bag(self.bag_A, y_AX, self.offset_T, mode="sum", per_sample_weights=weight_A)


def dispatched_linear(x_TI: Tensor, weight_TE: Tensor, to: Assignments, experts: Sequence[nn.Linear]) -> Tensor:
    """y = sum_e g_e (W_e x + b_e) of every token, (T, O); experts without a token are not part of the graph."""
    kind = x_TI.device.type
    if torch.is_autocast_enabled(kind):
        x_TI = x_TI.to(torch.get_autocast_dtype(kind))
    outputs, inputs = experts[0].weight.shape
    used = to.used()
    if not used:
        return x_TI.new_zeros(x_TI.shape[0], outputs)
    bias_eO = torch.stack([experts[index].bias for index in used])
    bias_TO = at_least_float32(weight_TE[:, used] @ bias_eO)  # the sum is float32 also in 16 bit
    weights = [experts[index].weight for index in used]
    if x_TI.is_cuda and x_TI.dtype == torch.bfloat16 and inputs % 8 == outputs % 8 == 0:
        return grouped_linear(bias_TO, x_TI, to, weights)
    function = _Widening if outputs > inputs else _Narrowing
    y_TO: Tensor = function.apply(bias_TO, x_TI, to.weight_A.to(x_TI.dtype), to, *weights)
    return y_TO.to(x_TI.dtype)


def grouped_linear(base_TO: Tensor, x_TI: Tensor, to: Assignments, weights: Sequence[Tensor]) -> Tensor:
    """base + sum_e g_e W_e x with one grouped product for all experts, which GPUs have in bfloat16."""
    stop_e = torch.tensor([count for count in to.counts if count], device=x_TI.device).cumsum(dim=0)
    weight_eOI = torch.stack([weight.to(x_TI.dtype) for weight in weights])
    x_AI: Tensor = _Gather.apply(x_TI, to)
    y_AO = F.grouped_mm(x_AI, weight_eOI.mT, offs=stop_e.int())
    y_TO: Tensor = _Combine.apply(y_AO, to.weight_A, to)
    return (base_TO + y_TO).to(x_TI.dtype)


class _Widening(torch.autograd.Function):
    """base + sum_e W_e (g_e x), with more outputs than inputs: inputs are scaled, outputs added expert by expert."""

    @staticmethod
    def forward(ctx: Any, base_TO: Tensor, x_TI: Tensor, weight_A: Tensor, to: Assignments, *weights: Tensor) -> Tensor:
        weights = tuple(weight.to(x_TI.dtype) for weight in weights)
        x_AI = to.gather(x_TI).mul_(weight_A[:, None])
        for token_a, x, weight in zip(to.split(to.token_A), to.split(x_AI), weights, strict=True):
            base_TO.index_add_(0, token_a, at_least_float32(x @ weight.t()))
        ctx.mark_dirty(base_TO)
        ctx.save_for_backward(x_TI, weight_A, *weights)
        ctx.to = to
        return base_TO

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        to, (x_TI, weight_A, *weights) = ctx.to, ctx.saved_tensors
        dy_TO, x_AI, dweights = gradients[0].to(x_TI.dtype), to.gather(x_TI), []
        scaled_AI, dscaled_AI = x_AI * weight_A[:, None], torch.empty_like(x_AI)
        groups = (to.split(to.token_A), to.split(scaled_AI), to.split(dscaled_AI), weights)
        for token_a, x, dx, weight in zip(*groups, strict=True):
            dy = dy_TO.index_select(0, token_a)
            torch.mm(dy, weight, out=dx)
            dweights.append(at_least_float32(dy.t() @ x))
        dweight_A = (dscaled_AI * x_AI).sum(dim=1)
        return gradients[0], to.sum(dscaled_AI, weight_A), dweight_A, None, *dweights


class _Narrowing(torch.autograd.Function):
    """base + sum_e g_e (W_e x), with fewer outputs than inputs: inputs are taken expert by expert, outputs scaled."""

    @staticmethod
    def forward(ctx: Any, base_TO: Tensor, x_TI: Tensor, weight_A: Tensor, to: Assignments, *weights: Tensor) -> Tensor:
        weights = tuple(weight.to(x_TI.dtype) for weight in weights)
        y_AO = x_TI.new_empty(len(to.token_A), base_TO.shape[1])
        for token_a, y, weight in zip(to.split(to.token_A), to.split(y_AO), weights, strict=True):
            torch.mm(x_TI.index_select(0, token_a), weight.t(), out=y)
        ctx.save_for_backward(x_TI, weight_A, y_AO, *weights)
        ctx.to = to
        return base_TO + to.sum(y_AO, weight_A)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        to, (x_TI, weight_A, y_AO, *weights) = ctx.to, ctx.saved_tensors
        dy_AO, dweights = to.gather(gradients[0].to(x_TI.dtype)), []
        dweight_A = (dy_AO * y_AO).sum(dim=1)
        dy_AO.mul_(weight_A[:, None])
        dx_TI = torch.zeros_like(x_TI, dtype=torch.promote_types(x_TI.dtype, torch.float32))
        for token_a, dy, weight in zip(to.split(to.token_A), to.split(dy_AO), weights, strict=True):
            dweights.append(at_least_float32(dy.t() @ x_TI.index_select(0, token_a)))
            dx_TI.index_add_(0, token_a, at_least_float32(dy @ weight))
        return gradients[0], dx_TI.to(x_TI.dtype), dweight_A, None, *dweights


class _Gather(torch.autograd.Function):
    """x of every assignment's token; its transpose sums by token, which autograd would do row by row."""

    @staticmethod
    def forward(ctx: Any, x_TI: Tensor, to: Assignments) -> Tensor:
        ctx.to = to
        return to.gather(x_TI)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.to.sum(gradients[0].contiguous()), None


class _Combine(torch.autograd.Function):
    """Weighted sum of a token's results."""

    @staticmethod
    def forward(ctx: Any, y_AO: Tensor, weight_A: Tensor, to: Assignments) -> Tensor:
        ctx.save_for_backward(y_AO, weight_A)
        ctx.to = to
        return to.sum(y_AO, weight_A)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        y_AO, weight_A = ctx.saved_tensors
        dy_AO = ctx.to.gather(gradients[0])
        dweight_A = (dy_AO * y_AO).sum(dim=1)
        return dy_AO.mul_(weight_A[:, None].to(dy_AO.dtype)), dweight_A, None


def dispatched(x_TI: Tensor, to: Assignments, experts: Sequence[Callable[[Tensor], Tensor]], outputs: int) -> Tensor:
    """y = sum_e g_e expert_e(x) of every token, (T, O), for experts of any form."""
    used = to.used()
    if not used:
        return x_TI.new_zeros(x_TI.shape[0], outputs)
    gathered_AI: Tensor = _Gather.apply(x_TI, to)
    parts = zip(used, to.split(gathered_AI), strict=True)
    y_AO = torch.cat([experts[index](part) for index, part in parts])
    y_TO: Tensor = _Combine.apply(y_AO, to.weight_A, to)
    return y_TO
