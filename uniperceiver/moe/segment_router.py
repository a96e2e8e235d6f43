"""Routing that reads no values: one decision for each distinct code among the segments.

Shape suffixes: G gates, R rows, C entries of a code, D width, E experts, k choices, T tokens, S segments.
"""

from collections.abc import Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniperceiver.moe.conditions import Code, OfSegment
from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.gate import gate_weights, probabilities, top_k
from uniperceiver.moe.merged_linear import Span
from uniperceiver.moe.route import Route, SegmentRoute
from uniperceiver.moe.router import draw_noise, gates_of
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


def logits_of(gates: Sequence[nn.Module], code_RC: Tensor) -> Tensor:
    """Logits of several gates at once, (G, R, E)."""

    def each(name: str) -> Tensor:
        return torch.stack([gate.get_parameter(name) for gate in gates])

    code_RC = code_RC.to(gates[0].get_parameter("linear.weight").dtype)
    if isinstance(gates[0].embed, Embedding):
        r_GRD = code_RC @ each("embed.table")
    else:
        r_GRD = torch.baddbmm(each("embed.bias")[:, None], code_RC.expand(len(gates), -1, -1), each("embed.weight").mT)
        r_GRD = F.layer_norm(r_GRD, r_GRD.shape[-1:])
        r_GRD = torch.addcmul(each("norm.bias")[:, None], r_GRD, each("norm.weight")[:, None])
    return r_GRD @ each("linear.weight").mT


class SegmentRouter(nn.Module):
    """Decides once for each distinct code among the segments."""

    def __init__(self, condition: OfSegment, settings: MoE, width: int, *, layer: int, part: str) -> None:
        super().__init__()
        self.condition, self.settings, self.layer, self.part = condition, settings, layer, part
        gates = gates_of(settings, part) if condition.gated else 0
        entries = condition.width(settings)
        self.gates = nn.ModuleList(
            SegmentGate(entries, width, settings.experts, normed=condition.normed) for _ in range(gates)
        )

    def forward(self, x_TD: Tensor, context: ForwardContext) -> tuple[Route, Route]:
        if (self.layer, self.part) not in context.decided:
            decide([self], context)
        routes = context.decided[self.layer, self.part]
        return routes[0], routes[-1]


def decide(routers: Sequence[SegmentRouter], context: ForwardContext) -> None:
    """Let the gates of half-blocks of the same settings decide, all at once: one by one would take many times longer.

    Their routes are put into `context.decided`.
    """
    condition, settings = routers[0].condition, routers[0].settings
    code_S = tuple(condition.code(segment, settings) for segment in context.segments)
    codes = tuple(dict.fromkeys(code_S))
    row_S = tuple(codes.index(code) for code in code_S)
    spans = joined_spans(context.spans, row_S)
    if condition.gated:
        with torch.autocast(context.device.type, enabled=False):
            routes = iter(_routes(routers, context, spans, codes, row_S))
        for router in routers:
            context.decided[router.layer, router.part] = tuple(islice(routes, len(router.gates)))
    else:
        route = SegmentRoute(context, spans, codes, tuple((code.index(1.0),) for code in codes), None, None)
        context.decided.update({(router.layer, router.part): (route,) for router in routers})


def _routes(
    routers: Sequence[SegmentRouter],
    context: ForwardContext,
    spans: tuple[Span, ...],
    codes: tuple[Code, ...],
    row_S: tuple[int, ...],
) -> list[SegmentRoute]:
    """The route of each gate of each router; the decisions are put into `context.decisions`."""
    settings = routers[0].settings
    gates = [(router, index) for router in routers for index in range(len(router.gates))]
    logit_GRE = logits_of([one.gates[index] for one, index in gates], torch.tensor(codes, device=context.device))
    logit_GRE, probability_GRE = probabilities(logit_GRE, _noise(len(gates), len(codes), settings, context))
    expert_GRk = top_k(probability_GRE, settings.k)
    weight_GRk = gate_weights(probability_GRE, expert_GRk, settings.renormalise)
    chosen_GRE = torch.zeros_like(probability_GRE, dtype=torch.bool).scatter_(2, expert_GRk, True)
    weight_GRE = torch.zeros_like(probability_GRE).scatter(2, expert_GRk, weight_GRk)
    fields = (each.unbind(0) for each in (logit_GRE, probability_GRE, chosen_GRE, weight_GRE))
    context.decisions.extend(
        Decision(
            layer=router.layer,
            part=router.part,
            gate=index,
            segments=context.segments,
            logit_TE=logit_RE,
            probability_TE=probability_RE,
            wanted_TE=chosen_RE,
            chosen_TE=chosen_RE,
            weight_TE=weight_RE,
            row_S=row_S,
            tokens_S=context.tokens_S,
        )
        for (router, index), logit_RE, probability_RE, chosen_RE, weight_RE in zip(gates, *fields, strict=True)
    )
    numbers = zip(expert_GRk.tolist(), weight_GRk.unbind(0), weight_GRk.tolist(), strict=True)
    return [
        SegmentRoute(context, spans, codes, tuple(map(tuple, expert_Rk)), weight_Rk, value_Rk)
        for expert_Rk, weight_Rk, value_Rk in numbers
    ]


def _noise(gates: int, rows: int, settings: MoE, context: ForwardContext) -> Tensor | None:
    """That of all gates, (G, R, E); None outside training."""
    drawn = [each for _ in range(gates) if (each := draw_noise(rows, 1, settings, context)) is not None]
    return torch.stack(drawn)[:, :, 0] if drawn else None


def joined_spans(spans: tuple[tuple[int, int], ...], row_S: tuple[int, ...]) -> tuple[Span, ...]:
    """Segments as spans with their rows; neighbours of one row become one span."""
    joined: list[Span] = []
    for (start, stop), row in zip(spans, row_S, strict=True):
        if joined and joined[-1][1:] == (start, row):
            joined[-1] = (joined[-1][0], stop, row)
        else:
            joined.append((start, stop, row))
    return tuple(joined)
