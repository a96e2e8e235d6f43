"""A route: the decision of a gate in the form in which linears with experts use it.

Shape suffixes: T tokens, B sequences, E experts, R rows, k choices, I inputs, O outputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from uniperceiver.moe.conditions import Code
from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.dispatch import Assignments, dispatched, dispatched_linear
from uniperceiver.moe.merged_linear import Span, apply_rows, functions_of_rows, merge, merged_linear


class Route(Protocol):
    """How the tokens of a half-block get to their experts."""

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


@dataclass(frozen=True)
class SegmentRoute:
    """One decision for each row of tokens that a condition cannot tell apart."""

    context: ForwardContext
    spans: tuple[Span, ...]
    codes: tuple[Code, ...]  # of the rows
    chosen: tuple[tuple[int, ...], ...]  # experts of each row
    weight_Rk: Tensor | None  # None: a single expert, whole
    value_Rk: Sequence[Sequence[float]] | None  # the same as numbers

    def first(self) -> "SegmentRoute":
        return self.prefix(self.context.sequences)

    def prefix(self, tokens: int) -> "SegmentRoute":
        row = self.spans[0][2]
        return replace(
            self,
            spans=((0, tokens, 0),),
            codes=(self.codes[row],),
            chosen=(self.chosen[row],),
            weight_Rk=None if self.weight_Rk is None else self.weight_Rk[row : row + 1],
            value_Rk=None if self.value_Rk is None else self.value_Rk[row : row + 1],
        )

    def linear(self, experts: nn.ModuleList, x_TI: Tensor) -> Tensor:
        linears: list[nn.Linear] = list(experts)  # type: ignore[arg-type]
        if self.context.merged is None or torch.is_grad_enabled():
            return merged_linear(x_TI, self.spans, self.chosen, self.weight_Rk, self.value_Rk, linears)
        rows = [self._kept(linears, row) for row in range(len(self.codes))]
        return apply_rows(x_TI, self.spans, rows)

    def _kept(self, experts: list[nn.Linear], row: int) -> tuple[Tensor, Tensor]:
        """The merged weight and bias of a row, merged once in a generation."""
        assert self.context.merged is not None
        key = (id(experts[0]), self.codes[row])
        if key not in self.context.merged:
            weight_k = None if self.value_Rk is None else self.value_Rk[row]
            several = [experts[each] for each in self.chosen[row]]
            self.context.merged[key] = (
                merge([each.weight for each in several], weight_k),
                merge([each.bias for each in several], weight_k),
            )
        return self.context.merged[key]

    def functions(self, experts: Sequence[Callable[[Tensor], Tensor]], x_TI: Tensor) -> Tensor:
        return functions_of_rows(x_TI, self.spans, self.chosen, self.weight_Rk, experts)


@dataclass(frozen=True)
class TokenRoute:
    """A decision for every token."""

    context: ForwardContext
    weight_TE: Tensor
    chosen_TE: Tensor  # bool; padding has none

    def first(self) -> "TokenRoute":
        weight_BE, chosen_BE = (self.context.unpack(each)[:, 0] for each in (self.weight_TE, self.chosen_TE))
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
