"""From a half-block's input to its experts: a router decides, a route is its decision as linears with experts use it.

Shape suffixes: T tokens, B sequences, E experts, G segment groups, k choices, I inputs, O outputs, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


class SegmentRoute:
    """One decision for each segment group.

    No dataclass, as no route with tensors is one: FSDP2 walks dataclasses among the arguments of what it shards, and
    hands over copies of those with gradients in them.

    Args:
        sequences: of the pass.
        spans: of tokens, with their groups.
        codes: of the groups.
        chosen: experts of each group.
        weight_Gk: their weights. None: a single expert, whole.
        value_Gk: the same as numbers.
        merged: as `ForwardContext.merged`.
    """

    def __init__(
        self,
        sequences: int,
        spans: tuple[Span, ...],
        codes: tuple[Code, ...],
        chosen: tuple[tuple[int, ...], ...],
        weight_Gk: Tensor | None,
        value_Gk: Sequence[Sequence[float]] | None,
        merged: dict[object, tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        self.sequences, self.spans, self.codes, self.chosen = sequences, spans, codes, chosen
        self.weight_Gk, self.value_Gk, self.merged = weight_Gk, value_Gk, merged

    def first(self) -> "SegmentRoute":
        return self.prefix(self.sequences)

    def prefix(self, tokens: int) -> "SegmentRoute":
        return SegmentRoute(  # groups are numbered as they come: the first segment is of the first
            self.sequences,
            ((0, tokens, 0),),
            self.codes[:1],
            self.chosen[:1],
            None if self.weight_Gk is None else self.weight_Gk[:1],
            None if self.value_Gk is None else self.value_Gk[:1],
            self.merged,
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


class TokenRoute:
    """A decision for every token; no dataclass, see `SegmentRoute`.

    Args:
        context: of the pass.
        weight_TE: 0 where an expert was not chosen.
        chosen_TE: bool; padding has none.
    """

    def __init__(self, context: ForwardContext, weight_TE: Tensor, chosen_TE: Tensor) -> None:
        self.context, self.weight_TE, self.chosen_TE = context, weight_TE, chosen_TE

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
