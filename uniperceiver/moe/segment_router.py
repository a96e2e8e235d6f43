"""Routing that reads no values: one decision for each segment group, the segments of one code.

Shape suffixes: J gates that decide together, G segment groups, Y entries of a code, D width, E experts,
k choices, T tokens, S segments.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniperceiver.moe.conditions import Code, OfSegment
from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.gate import draw_noise, gate_weights, gates_of, probabilities, top_k
from uniperceiver.moe.kernels.by_group import Span
from uniperceiver.moe.route import Route, Router, SegmentRoute
from uniperceiver.moe.settings import KINDS, MoE
from uniperceiver.records import Decision


class Embedding(nn.Module):
    """A learned vector for each entry of a code."""

    def __init__(self, entries: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(entries, width))


class SegmentGate(nn.Module):
    """R of a code (Eq. 7-9), and W_g.

    Args:
        usual: entries of the code that models without added modalities have, too; the others stand behind them.
    """

    def __init__(self, entries: int, width: int, experts: int, *, normed: bool, usual: int) -> None:
        super().__init__()
        self.usual = usual
        self.embed = nn.Linear(entries, width) if normed else Embedding(entries, width)
        self.norm = nn.LayerNorm(width) if normed else nn.Identity()
        self.linear = nn.Linear(width, experts, bias=False)


def logits_of(gates: Sequence[nn.Module], code_GY: Tensor) -> Tensor:
    """Logits of several gates at once, (J, G, E).

    Written as batches of one product, so that any number of gates gives the same numbers to the last bit.
    """

    def of_gates(name: str) -> Tensor:
        return torch.stack([gate.get_parameter(name) for gate in gates])

    code_GY = code_GY.to(gates[0].get_parameter("linear.weight").dtype)
    if isinstance(gates[0].embed, Embedding):
        r_JGD = code_GY @ of_gates("embed.table")
    else:
        code_JGY = code_GY.expand(len(gates), -1, -1)
        r_JGD = torch.baddbmm(of_gates("embed.bias")[:, None], code_JGY, of_gates("embed.weight").mT)
        r_JGD = F.layer_norm(r_JGD, r_JGD.shape[-1:])
        r_JGD = torch.addcmul(of_gates("norm.bias")[:, None], r_JGD, of_gates("norm.weight")[:, None])
    return r_JGD @ of_gates("linear.weight").mT


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
        entries, usual = condition.width(settings), condition.width(replace(settings, kinds=KINDS))
        self.gates = nn.ModuleList(
            SegmentGate(entries, width, settings.experts, normed=condition.normed, usual=usual) for _ in range(gates)
        )

    def forward(self, x_TD: Tensor, context: ForwardContext) -> tuple[Route, Route]:
        if self not in context.routes:
            decide([self], context)
        routes: list[SegmentRoute] = context.routes[self]
        return routes[0], routes[-1]


def decide(routers: Sequence[SegmentRouter], context: ForwardContext) -> None:
    """Let routers of the same condition and settings decide, all at once: one by one would take many times longer.

    Codes are few and small, so it is calls that cost. The routes are put into the context, from where each router takes
    its own; the decisions of the gates, too.
    """
    condition, settings = routers[0].condition, routers[0].settings
    groups = SegmentGroups.of(context, condition, settings)
    if condition.gated:
        with torch.autocast(context.device.type, enabled=False):
            routes = iter(_routes(routers, groups, settings, context))
        context.routes.update({router: list(islice(routes, len(router.gates))) for router in routers})
    else:
        chosen = tuple((code.index(1.0),) for code in groups.codes)
        route = SegmentRoute(context.sequences, groups.spans, groups.codes, chosen, None, None, merged=context.merged)
        context.routes.update({router: [route] for router in routers})


def _routes(
    routers: Sequence[SegmentRouter], groups: SegmentGroups, settings: MoE, context: ForwardContext
) -> list[SegmentRoute]:
    """The route of each gate of each router; their decisions are put into the context."""
    gates = [(router, index, gate) for router in routers for index, gate in enumerate(router.gates)]
    noise_JGE = _noise(len(gates), len(groups.codes), settings, context)
    logit_JGE, probability_JGE = probabilities(logits_of([gate for *_, gate in gates], groups.code_GY), noise_JGE)
    expert_JGk = top_k(probability_JGE, settings.k)
    weight_JGk = gate_weights(probability_JGE, expert_JGk, settings.renormalise)
    chosen_JGE = torch.zeros_like(probability_JGE, dtype=torch.bool).scatter_(2, expert_JGk, True)
    weight_JGE = torch.zeros_like(probability_JGE).scatter(2, expert_JGk, weight_JGk)
    fields = (value_JGE.unbind(0) for value_JGE in (logit_JGE, probability_JGE, chosen_JGE, weight_JGE))
    context.decisions.extend(
        Decision(
            layer=router.layer,
            part=router.part,
            gate=index,
            segments=context.segments,
            logit_TE=logit_GE,
            probability_TE=probability_GE,
            wanted_TE=chosen_GE,
            chosen_TE=chosen_GE,
            weight_TE=weight_GE,
            group_S=groups.group_S,
            tokens_S=context.tokens_S,
        )
        for (router, index, _), logit_GE, probability_GE, chosen_GE, weight_GE in zip(gates, *fields, strict=True)
    )
    by_gate = zip(expert_JGk.tolist(), weight_JGk.unbind(0), weight_JGk.tolist(), strict=True)
    return [
        SegmentRoute(
            context.sequences,
            groups.spans,
            groups.codes,
            tuple(map(tuple, expert_Gk)),
            weight_Gk,
            value_Gk,
            merged=context.merged,
        )
        for expert_Gk, weight_Gk, value_Gk in by_gate
    ]


def _noise(gates: int, groups: int, settings: MoE, context: ForwardContext) -> Tensor | None:
    """That of all gates, (J, G, E); None outside training."""
    drawn = [draw_noise(groups, 1, settings, context) for _ in range(gates)]
    noise = [noise_G1E[:, 0] for noise_G1E in drawn if noise_G1E is not None]
    return torch.stack(noise) if noise else None


def joined_spans(spans: tuple[tuple[int, int], ...], group_S: tuple[int, ...]) -> tuple[Span, ...]:
    """Segments as spans with their groups; neighbours of one group become one span."""
    joined: list[Span] = []
    for (start, stop), group in zip(spans, group_S, strict=True):
        if joined and joined[-1][1:] == (start, group):
            joined[-1] = (joined[-1][0], stop, group)
        else:
            joined.append((start, stop, group))
    return tuple(joined)
