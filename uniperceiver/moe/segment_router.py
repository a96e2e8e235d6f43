"""Routing that reads no values: one decision for each segment group, the segments of one code.

Shape suffixes: G segment groups, Y entries of a code, D width, E experts, k choices, T tokens, S segments.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniperceiver.moe.conditions import Code, OfSegment
from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.gate import draw_noise, gate_weights, gates_of, probabilities, top_k
from uniperceiver.moe.kernels.by_group import Span
from uniperceiver.moe.route import Route, Router, SegmentRoute
from uniperceiver.moe.settings import MoE
from uniperceiver.records import Decision


class Embedding(nn.Module):
    """A learned vector for each entry of a code."""

    def __init__(self, entries: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(entries, width))


class SegmentGate(nn.Module):
    """R of a code (Eq. 7-9), and W_g."""

    def __init__(self, entries: int, width: int, experts: int, *, normed: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(entries, width) if normed else Embedding(entries, width)
        self.norm = nn.LayerNorm(width) if normed else nn.Identity()
        self.linear = nn.Linear(width, experts, bias=False)

    def forward(self, code_GY: Tensor) -> Tensor:
        """Logits, (G, E).

        Written as batches of one product: several gates at once give the same numbers to the last bit, as runs of
        before were computed.
        """
        code_GY = code_GY.to(self.linear.weight.dtype)
        if isinstance(self.embed, nn.Linear) and isinstance(self.norm, nn.LayerNorm):
            r_1GD = torch.baddbmm(self.embed.bias[None, None], code_GY[None], self.embed.weight.mT[None])
            r_1GD = F.layer_norm(r_1GD, r_1GD.shape[-1:])
            r_1GD = torch.addcmul(self.norm.bias, r_1GD, self.norm.weight)
        else:
            r_1GD = code_GY @ self.embed.get_parameter("table")[None]
        return (r_1GD @ self.linear.weight.mT[None])[0]


@dataclass(frozen=True, kw_only=True)
class SegmentGroups:
    """The segments of a pass by their codes: tokens of one group cannot be told apart."""

    codes: tuple[Code, ...]
    group_S: tuple[int, ...]
    spans: tuple[Span, ...]
    code_GY: Tensor  # float32

    @classmethod
    def of(cls, context: ForwardContext, condition: OfSegment, settings: MoE) -> "SegmentGroups":
        """Those of a pass, found once for all of its routers."""
        if condition not in context.groups:
            code_S = tuple(condition.code(segment, settings) for segment in context.segments)
            codes = tuple(dict.fromkeys(code_S))
            group_S = tuple(codes.index(code) for code in code_S)
            code_GY = torch.tensor(codes, device=context.device)
            spans = joined_spans(context.spans, group_S)
            context.groups[condition] = cls(codes=codes, group_S=group_S, spans=spans, code_GY=code_GY)
        groups: SegmentGroups = context.groups[condition]
        return groups


class SegmentRouter(Router):
    """Decides once for each segment group."""

    compiles: ClassVar[bool] = False

    def __init__(self, condition: OfSegment, settings: MoE, width: int, *, layer: int, part: str) -> None:
        super().__init__()
        self.condition, self.settings, self.layer, self.part = condition, settings, layer, part
        gates = gates_of(settings, part) if condition.gated else 0
        entries = condition.width(settings)
        self.gates = nn.ModuleList(
            SegmentGate(entries, width, settings.experts, normed=condition.normed) for _ in range(gates)
        )

    def forward(self, x_TD: Tensor, context: ForwardContext) -> tuple[Route, Route]:
        groups = SegmentGroups.of(context, self.condition, self.settings)
        if not self.condition.gated:
            chosen = tuple((code.index(1.0),) for code in groups.codes)
            route = SegmentRoute(
                context.sequences, groups.spans, groups.codes, chosen, None, None, merged=context.merged
            )
            return route, route
        with torch.autocast(context.device.type, enabled=False):
            routes = [self._route(index, groups, context) for index in range(len(self.gates))]
        return routes[0], routes[-1]

    def _route(self, index: int, groups: SegmentGroups, context: ForwardContext) -> SegmentRoute:
        noise_G1E = draw_noise(len(groups.codes), 1, self.settings, context)
        logit_GE, probability_GE = probabilities(
            self.gates[index](groups.code_GY), None if noise_G1E is None else noise_G1E[:, 0]
        )
        expert_Gk = top_k(probability_GE, self.settings.k)
        weight_Gk = gate_weights(probability_GE, expert_Gk, self.settings.renormalise)
        chosen_GE = torch.zeros_like(probability_GE, dtype=torch.bool).scatter_(1, expert_Gk, True)
        context.decisions.append(
            Decision(
                layer=self.layer,
                part=self.part,
                gate=index,
                segments=context.segments,
                logit_TE=logit_GE,
                probability_TE=probability_GE,
                wanted_TE=chosen_GE,
                chosen_TE=chosen_GE,
                weight_TE=torch.zeros_like(probability_GE).scatter(1, expert_Gk, weight_Gk),
                group_S=groups.group_S,
                tokens_S=context.tokens_S,
            )
        )
        chosen = tuple(map(tuple, expert_Gk.tolist()))
        return SegmentRoute(
            context.sequences, groups.spans, groups.codes, chosen, weight_Gk, weight_Gk.tolist(), merged=context.merged
        )


def joined_spans(spans: tuple[tuple[int, int], ...], group_S: tuple[int, ...]) -> tuple[Span, ...]:
    """Segments as spans with their groups; neighbours of one group become one span."""
    joined: list[Span] = []
    for (start, stop), group in zip(spans, group_S, strict=True):
        if joined and joined[-1][1:] == (start, group):
            joined[-1] = (joined[-1][0], stop, group)
        else:
            joined.append((start, stop, group))
    return tuple(joined)
