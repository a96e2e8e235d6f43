"""The half-blocks of a merged model: the weights of a segment's code are looked up, and are plain ones.

Shape suffixes: T tokens, I inputs, O outputs, D width, S segments, G segment groups (here: codes that are held).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt
from torch import Tensor, nn

from uniperceiver.errors import UserError
from uniperceiver.moe.conditions import Code, OfSegment
from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.kernels.by_group import Span
from uniperceiver.moe.layer import Linear
from uniperceiver.moe.route import Route, Router, Unrouted
from uniperceiver.moe.segment_router import joined_spans
from uniperceiver.moe.settings import MoE
from uniperceiver.records import Segment
from uniperceiver.strict import record


@record
class MergedHalfBlock:
    """Which row of weights each code uses in the two linears of an attention or FFN, in the order of the codes."""

    layer: NonNegativeInt
    part: Literal["attention", "ffn"]
    first: tuple[NonNegativeInt, ...]
    """qkv, or the first linear of the FFN."""
    second: tuple[NonNegativeInt, ...]
    """The attention output, or the second linear of the FFN."""


@record
class Merged:
    """What a merged model holds; saved in its config.json.

    Raises:
        ValueError: a half-block that does not say which row each code uses.
    """

    tasks: tuple[str, ...]
    """The tasks that it was merged for."""
    codes: tuple[tuple[float, ...], ...]
    """What the condition makes of their segments."""
    half_blocks: tuple[MergedHalfBlock, ...]
    """Those that had experts."""

    def __post_init__(self) -> None:
        for half in self.half_blocks:
            if any(len(row_G) != len(self.codes) for row_G in (half.first, half.second)):
                raise ValueError(f"layer {half.layer}, {half.part}: must name a row for each of the codes")

    @property
    def rows(self) -> int:
        """The most rows that a linear has."""
        return max((max(*half.first, *half.second) + 1 for half in self.half_blocks), default=1)

    def of(self, layer: int, part: str) -> MergedHalfBlock | None:
        """The rows of a half-block; None if it had no experts."""
        return next((half for half in self.half_blocks if (half.layer, half.part) == (layer, part)), None)

    def restricted_to(self, codes: Iterable[Code]) -> "Merged":
        """What is left of it for those of its codes."""
        codes = tuple(codes)
        places = [self.codes.index(code) for code in codes]
        halves = (
            MergedHalfBlock(
                layer=half.layer,
                part=half.part,
                first=renumbered([half.first[place] for place in places]),
                second=renumbered([half.second[place] for place in places]),
            )
            for half in self.half_blocks
        )
        return Merged(tasks=self.tasks, codes=codes, half_blocks=tuple(halves))


def renumbered(rows: Sequence[int]) -> tuple[int, ...]:
    """The same rows, counted from 0 in the order in which they come."""
    order = list(dict.fromkeys(rows))
    return tuple(map(order.index, rows))


class HeldCodes:
    """The codes that a merged model holds, asked by all of its routers."""

    def __init__(self, condition: OfSegment, settings: MoE, merged: Merged) -> None:
        self.condition, self.settings, self.merged = condition, settings, merged
        # One pass asks for the same segments in every layer. A pair, so that threads see both or neither.
        self._last: tuple[tuple[Segment, ...], tuple[int, ...]] = ((), ())

    def codes_of(self, segments: tuple[Segment, ...]) -> tuple[int, ...]:
        """The code of each segment, (S,), by its place among those that are held.

        Raises:
            UserError: the model holds no weights for a segment; the tasks that it was merged for are named.
        """
        last, code_S = self._last
        if last is not segments:
            code_S = tuple(map(self._code_of, segments))
            self._last = (segments, code_S)
        return code_S

    def _code_of(self, segment: Segment) -> int:
        tasks = ", ".join(self.merged.tasks)
        try:
            code = self.condition.code(segment, self.settings)
        except UserError as error:
            raise UserError(f"{error} (this model was merged for: {tasks})") from None
        if code not in self.merged.codes:
            facts = segment.facts
            index = "a task" if facts.task is None else f"task {facts.task} of the run (counted from 0),"
            raise UserError(
                f"this model was merged for {tasks}, and holds no weights for {'causal ' if segment.causal else ''}"
                f"{segment.kind} tokens of {facts.side}s of {index} from {' + '.join(facts.inputs)} to "
                f"{' + '.join(facts.targets)}; ask one of these tasks, or merge the model with experts again, for more "
                "tasks"
            )
        return self.merged.codes.index(code)


class MergedLinear(nn.Module):
    """A linear with a weight and bias for each row, which it owns: they are read in its forward, or in its FFN's."""

    def __init__(self, inputs: int, outputs: int, rows: int) -> None:
        super().__init__()
        self.rows = nn.ModuleList(nn.Linear(inputs, outputs) for _ in range(rows))

    def forward(self, x_TI: Tensor, route: Route) -> Tensor:
        return route.linear(self.rows, x_TI)


def linear_with_rows(inputs: int, outputs: int, row_G: Sequence[int]) -> nn.Module:
    """A linear with the rows that the codes use: a plain one where all use the same."""
    rows = max(row_G) + 1
    return Linear(inputs, outputs) if rows == 1 else MergedLinear(inputs, outputs, rows)


class MergedRouter(Router):
    """The router of a merged half-block: no gate, only codes that are held; refuses all other segments."""

    def __init__(self, held: HeldCodes, rows: MergedHalfBlock) -> None:
        super().__init__()
        self.held, self.rows = held, rows

    def forward(self, x_TD: Tensor, context: ForwardContext) -> tuple[Route, Route]:
        code_S = self.held.codes_of(context.segments)
        first = self._route(self.rows.first, code_S, context)
        return first, first if self.rows.second == self.rows.first else self._route(self.rows.second, code_S, context)

    def _route(self, row_G: tuple[int, ...], code_S: tuple[int, ...], context: ForwardContext) -> Route:
        if not any(row_G):  # a plain linear
            return Unrouted()
        return MergedRoute(context.sequences, joined_spans(context.spans, tuple(row_G[code] for code in code_S)))


class MergedFeedForward(nn.Module):
    """Linear, exact (erf) GELU, linear of a merged FFN.

    Without gradients it goes span after span and changes hidden values in place: what is computed next is then still
    in the cache, and no second buffer of their size is asked of the system.
    """

    def __init__(self, linear1: nn.Module, linear2: nn.Module, router: nn.Module) -> None:
        super().__init__()
        self.linear1, self.linear2, self.router = linear1, linear2, router

    def forward(self, x_TD: Tensor, context: ForwardContext) -> Tensor:
        route1, route2 = self.router(x_TD, context)
        if torch.is_grad_enabled():
            return self.linear2(F.gelu(self.linear1(x_TD, route1)), route2)
        autocast = torch.is_autocast_enabled(x_TD.device.type)
        if autocast or route1 is not route2 or not isinstance(route1, MergedRoute):
            return self.linear2(torch.ops.aten.gelu_(self.linear1(x_TD, route1)), route2)
        rows1, rows2 = self.linear1.get_submodule("rows"), self.linear2.get_submodule("rows")
        y_TD = torch.empty_like(x_TD)
        for start, stop, row in route1.spans:
            hidden = torch.ops.aten.gelu_(F.linear(x_TD[start:stop], *_row_of(rows1, row)))
            weight, bias = _row_of(rows2, row)
            torch.addmm(bias, hidden, weight.t(), out=y_TD[start:stop])
        return y_TD


@dataclass(frozen=True)
class MergedRoute:
    """Each span of tokens goes through the weight and bias of its row."""

    sequences: int
    spans: tuple[Span, ...]  # with rows instead of groups

    def first(self) -> "MergedRoute":
        return self.prefix(self.sequences)

    def prefix(self, tokens: int) -> "MergedRoute":
        return MergedRoute(self.sequences, ((0, tokens, self.spans[0][2]),))

    def linear(self, rows: nn.ModuleList, x_TI: Tensor) -> Tensor:
        if len(self.spans) == 1:
            return F.linear(x_TI, *_row_of(rows, self.spans[0][2]))
        if torch.is_grad_enabled() or torch.is_autocast_enabled(x_TI.device.type):
            return torch.cat([F.linear(x_TI[start:stop], *_row_of(rows, row)) for start, stop, row in self.spans])
        y_TO = x_TI.new_empty(x_TI.shape[0], _row_of(rows, 0)[0].shape[0])
        for start, stop, row in self.spans:
            weight, bias = _row_of(rows, row)
            torch.addmm(bias, x_TI[start:stop], weight.t(), out=y_TO[start:stop])
        return y_TO

    def functions(self, experts: Sequence[Callable[[Tensor], Tensor]], x_TI: Tensor) -> Tensor:
        raise AssertionError("a merged half-block has no experts")


def _row_of(rows: nn.Module, row: int) -> tuple[Tensor, Tensor]:
    """The weight and bias of a row."""
    linear: nn.Linear = rows[row]  # type: ignore[index]
    return linear.weight, linear.bias
