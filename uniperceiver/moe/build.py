"""The half-blocks of a model, with or without experts, from its settings: linears, FFNs and their routers."""

from dataclasses import dataclass

from torch import nn

from uniperceiver.moe.conditions import condition_of
from uniperceiver.moe.fold import mergeable
from uniperceiver.moe.layer import ExpertFeedForward, ExpertLinear, FeedForward, Linear
from uniperceiver.moe.merged_blocks import HeldCodes, Merged, MergedFeedForward, MergedRouter, linear_with_rows
from uniperceiver.moe.route import NoRouter, Router
from uniperceiver.moe.segment_router import SegmentRouter
from uniperceiver.moe.settings import MoE
from uniperceiver.moe.token_router import TokenRouter


@dataclass(frozen=True, kw_only=True)
class HalfBlock:
    """The two linears of an attention or FFN, and the router that they are called with."""

    first: nn.Module
    second: nn.Module
    router: Router


class HalfBlocks:
    """Makes the half-blocks of one model.

    Args:
        moe: the experts; None: a dense model.
        merged: what these experts were folded into; None: they were not.
        width: of the tokens.
        heads: of the pooling by attention, where the condition has one.
    """

    def __init__(self, moe: MoE | None, merged: Merged | None, *, width: int, heads: int) -> None:
        self.moe, self.merged, self.width, self.heads = moe, merged, width, heads
        self._held = None if moe is None or merged is None else HeldCodes(mergeable(moe), moe, merged)

    @property
    def apart(self) -> bool:
        """Whether the segments of a sequence go through different weights, so that each had better be one slice."""
        if self.moe is None or condition_of(self.moe.condition).by_token:
            return False
        return self.merged is None or self.merged.rows > 1

    @property
    def looks_at_neighbours(self) -> bool:
        """Whether the experts of a token depend on other tokens of the layer."""
        return self.moe is not None and condition_of(self.moe.condition).looks_at_neighbours(self.moe)

    def attention(self, layer: int) -> HalfBlock:
        """The projections of an attention: packed query, key and value; output."""
        moe = self.moe if self.moe is not None and layer in self.moe.attention_layers else None
        return self._linears(moe, layer, "attention", ((self.width, 3 * self.width), (self.width, self.width)))

    def ffn(self, layer: int, hidden: int) -> nn.Module:
        """An FFN with that many hidden values, called with (x_TD, context)."""
        moe = self.moe if self.moe is not None and layer in self.moe.ffn_layers else None
        if moe is not None and moe.level == "ffn" and self._held is None:
            return ExpertFeedForward(self._router(moe, layer, "ffn"), self.width, hidden, moe.experts)
        half = self._linears(moe, layer, "ffn", ((self.width, hidden), (hidden, self.width)))
        merged = self.merged is not None and self.merged.of(layer, "ffn") is not None
        return (MergedFeedForward if merged else FeedForward)(half.first, half.second, half.router)

    def _linears(
        self, moe: MoE | None, layer: int, part: str, shapes: tuple[tuple[int, int], tuple[int, int]]
    ) -> HalfBlock:
        """Two linears, from their inputs and outputs, and the router; weights are drawn in this order."""
        (shape1, shape2), rows = shapes, None if self.merged is None else self.merged.of(layer, part)
        if self._held is not None and rows is not None:
            first, second = linear_with_rows(*shape1, rows.first), linear_with_rows(*shape2, rows.second)
            return HalfBlock(first=first, second=second, router=MergedRouter(self._held, rows))
        if moe is None:
            return HalfBlock(first=Linear(*shape1), second=Linear(*shape2), router=NoRouter())
        first, second = ExpertLinear(*shape1, moe.experts), ExpertLinear(*shape2, moe.experts)
        return HalfBlock(first=first, second=second, router=self._router(moe, layer, part))

    def _router(self, moe: MoE, layer: int, part: str) -> Router:
        condition = condition_of(moe.condition)
        if condition.by_token:
            return TokenRouter(condition, moe, self.width, heads=self.heads, layer=layer, part=part)
        return SegmentRouter(condition, moe, self.width, layer=layer, part=part)
