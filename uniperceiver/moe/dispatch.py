"""Experts chosen token by token: tokens are sorted by expert, each expert multiplies its own, and results are summed.

No token is dropped here and none is padded: an expert gets as many rows as it was given.

Shape suffixes: T tokens, E experts, A assignments (token, expert) in the order of the experts, I inputs, O outputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


def _sum_by_token(y_AO: Tensor, to: Assignments, weight_A: Tensor | None = None) -> Tensor:
    """For every token the sum of its assignments' rows, weighted if asked; zero where it has none."""
    weight_A = weight_A if weight_A is None else weight_A.to(y_AO.dtype)
    return F.embedding_bag(to.bag_A, y_AO, to.offset_T, mode="sum", per_sample_weights=weight_A)


class _Gather(torch.autograd.Function):
    """x of every assignment's token; its transpose sums by token, which autograd would do row by row."""

    @staticmethod
    def forward(ctx: Any, x_TI: Tensor, to: Assignments) -> Tensor:
        ctx.to = to
        return x_TI.index_select(0, to.token_A)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _sum_by_token(gradients[0].contiguous(), ctx.to), None


class _Combine(torch.autograd.Function):
    """Sum of a token's results."""

    @staticmethod
    def forward(ctx: Any, y_AO: Tensor, to: Assignments) -> Tensor:
        ctx.to = to
        return _sum_by_token(y_AO, to)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return gradients[0].index_select(0, ctx.to.token_A), None


class _GroupedLinear(torch.autograd.Function):
    """Each expert's matrix on its own rows, written in place of a concatenation."""

    @staticmethod
    def forward(ctx: Any, x_AI: Tensor, counts: Sequence[int], *weights: Tensor) -> Tensor:
        weights = tuple(weight.to(x_AI.dtype) for weight in weights)
        y_AO = x_AI.new_empty(x_AI.shape[0], weights[0].shape[0])
        for x, y, weight in zip(x_AI.split(counts), y_AO.split(counts), weights, strict=True):
            torch.mm(x, weight.t(), out=y)
        ctx.counts = counts
        ctx.save_for_backward(x_AI, *weights)
        return y_AO

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_AI, *weights = ctx.saved_tensors
        dy_AO, dx_AI = gradients[0], torch.empty_like(x_AI)
        groups = zip(dy_AO.split(ctx.counts), dx_AI.split(ctx.counts), weights, strict=True)
        for dy, dx, weight in groups:
            torch.mm(dy, weight, out=dx)
        dweights = [(dy.t() @ x).float() for dy, x in zip(dy_AO.split(ctx.counts), x_AI.split(ctx.counts), strict=True)]
        return dx_AI, None, *dweights


def dispatched_linear(x_TI: Tensor, weight_TE: Tensor, to: Assignments, experts: Sequence[nn.Linear]) -> Tensor:
    """y = sum_e g_e (W_e x + b_e) of every token, (T, O); experts without a token are not part of the graph."""
    kind = x_TI.device.type
    if torch.is_autocast_enabled(kind):
        x_TI = x_TI.to(torch.get_autocast_dtype(kind))
    used = to.used()
    outputs = experts[0].weight.shape[0]
    if not used:
        return x_TI.new_zeros(x_TI.shape[0], outputs)
    gathered_AI: Tensor = _Gather.apply(x_TI, to)
    # W(g x) instead of g(W x): the gate's gradient then needs no result of the expert.
    scaled_AI = gathered_AI * to.weight_A[:, None].to(x_TI.dtype)
    counts = [to.counts[each] for each in used]
    y_AO: Tensor = _GroupedLinear.apply(scaled_AI, counts, *(experts[each].weight for each in used))
    y_TO: Tensor = _Combine.apply(y_AO, to)
    bias_UO = torch.stack([experts[each].bias for each in used]).to(y_TO.dtype)
    return torch.addmm(y_TO, weight_TE[:, used].to(y_TO.dtype), bias_UO)


def dispatched(x_TI: Tensor, to: Assignments, experts: Sequence[Callable[[Tensor], Tensor]], outputs: int) -> Tensor:
    """y = sum_e g_e expert_e(x) of every token, (T, O), for experts of any form."""
    used = to.used()
    if not used:
        return x_TI.new_zeros(x_TI.shape[0], outputs)
    gathered_AI: Tensor = _Gather.apply(x_TI, to)
    parts = gathered_AI.split([to.counts[each] for each in used])
    y_AO = torch.cat([experts[each](part) for each, part in zip(used, parts, strict=True)])
    weighted_AO = y_AO * to.weight_A[:, None].to(y_AO.dtype)
    y_TO: Tensor = _Combine.apply(weighted_AO, to)
    return y_TO
