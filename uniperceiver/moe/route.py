"""From a half-block's input to its experts: a router decides, a route is its decision as linears with experts use it.

Shape suffixes: T tokens, B sequences, E experts, G segment groups, k choices, I inputs, O outputs, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from uniperceiver.moe.conditions import Code
from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.kernels.by_group import Span, apply_merged, functions_of_groups, merge, merged_linear
from uniperceiver.moe.kernels.by_token import Assignments, dispatched, dispatched_linear


class Route(Protocol):
    """How the tokens of a half-block get to their experts; called in the forward of the experts' owner."""

    def first(self) -> "Route":
        """The route of the first token of every sequence only."""
        ...

    def prefix(self, tokens: int) -> "Route | None":
        """The route of a prompt of that many tokens, which belongs to the first segment; None: it needs its own."""
        ...

    def linear(self, experts: nn.ModuleList, x_TI: Tensor) -> Tensor:
        """y = sum_e g_e (W_e x + b_e), (T, O)."""
        ...

    def functions(self, experts: Sequence[Callable[[Tensor], Tensor]], x_TI: Tensor) -> Tensor:
        """y = sum_e g_e expert_e(x), (T, O), for whole FFNs."""
        ...


class Router(nn.Module):
    """From a half-block's input, (T, D), to the routes of its first and its second linear."""

    # Whether torch.compile may trace it: not where sizes are other numbers in every step.
    compiles: ClassVar[bool] = True

    def forward(self, x_TD: Tensor, context: ForwardContext) -> tuple[Route, Route]:
        """The routes, and what was decided in `context.decisions`."""
        raise NotImplementedError


class NoRouter(Router):
    """A dense half-block."""

    def forward(self, x_TD: Tensor, context: ForwardContext) -> tuple[Route, Route]:
        return Unrouted(), Unrouted()


@dataclass(frozen=True)
class SegmentRoute:
    """One decision for each segment group."""

    sequences: int
    spans: tuple[Span, ...]
    codes: tuple[Code, ...]  # of the groups
    chosen: tuple[tuple[int, ...], ...]  # experts of each group
    weight_Gk: Tensor | None  # None: a single expert, whole
    value_Gk: Sequence[Sequence[float]] | None  # the same as numbers
    merged: dict[object, tuple[Tensor, Tensor]] | None = None  # as `ForwardContext.merged`

    def first(self) -> "SegmentRoute":
        return self.prefix(self.sequences)

    def prefix(self, tokens: int) -> "SegmentRoute":
        return replace(  # groups are numbered as they come: the first segment is of the first
            self,
            spans=((0, tokens, 0),),
            codes=self.codes[:1],
            chosen=self.chosen[:1],
            weight_Gk=None if self.weight_Gk is None else self.weight_Gk[:1],
            value_Gk=None if self.value_Gk is None else self.value_Gk[:1],
        )

    def linear(self, experts: nn.ModuleList, x_TI: Tensor) -> Tensor:
        linears: list[nn.Linear] = list(experts)  # type: ignore[arg-type]
        if self.merged is None or torch.is_grad_enabled():
            return merged_linear(x_TI, self.spans, self.chosen, self.weight_Gk, self.value_Gk, linears)
        return apply_merged(
            x_TI, self.spans, [self._merged(experts, linears, group) for group in range(len(self.codes))]
        )

    def _merged(self, owner: nn.ModuleList, experts: list[nn.Linear], group: int) -> tuple[Tensor, Tensor]:
        """The weight and bias of a group, merged once in a generation; of an expert taken whole nothing is kept."""
        assert self.merged is not None
        if self.value_Gk is None:
            (expert,) = self.chosen[group]
            return experts[expert].weight, experts[expert].bias
        key, chosen = (owner, self.codes[group]), [experts[expert] for expert in self.chosen[group]]
        if key not in self.merged:
            self.merged[key] = (
                merge([expert.weight for expert in chosen], self.value_Gk[group]),
                merge([expert.bias for expert in chosen], self.value_Gk[group]),
            )
        return self.merged[key]

    def functions(self, experts: Sequence[Callable[[Tensor], Tensor]], x_TI: Tensor) -> Tensor:
        return functions_of_groups(x_TI, self.spans, self.chosen, self.weight_Gk, experts)


@dataclass(frozen=True)
class TokenRoute:
    """A decision for every token."""

    context: ForwardContext
    weight_TE: Tensor
    chosen_TE: Tensor  # bool; padding has none

    def first(self) -> "TokenRoute":
        weight_BE, chosen_BE = (self.context.unpack(gate_TE)[:, 0] for gate_TE in (self.weight_TE, self.chosen_TE))
        return TokenRoute(self.context.first(), weight_BE, chosen_BE)

    def prefix(self, tokens: int) -> None:
        return None

    @cached_property
    def assignments(self) -> Assignments:
        """Sorted once for all linears of the half-block."""
        return Assignments.of(self.weight_TE, self.chosen_TE)

    def linear(self, experts: nn.ModuleList, x_TI: Tensor) -> Tensor:
        linears: list[nn.Linear] = list(experts)  # type: ignore[arg-type]
        return dispatched_linear(x_TI, self.weight_TE, self.assignments, linears)

    def functions(self, experts: Sequence[Callable[[Tensor], Tensor]], x_TI: Tensor) -> Tensor:
        return dispatched(x_TI, self.assignments, experts, x_TI.shape[1])


@dataclass(frozen=True)
class Unrouted:
    """The route of a dense half-block: nothing to decide."""

    def first(self) -> "Unrouted":
        return self

    def prefix(self, tokens: int) -> "Unrouted":
        return self

    def linear(self, experts: nn.ModuleList, x_TI: Tensor) -> Tensor:
        raise AssertionError("a dense half-block has no experts")

    def functions(self, experts: Sequence[Callable[[Tensor], Tensor]], x_TI: Tensor) -> Tensor:
        raise AssertionError("a dense half-block has no experts")
