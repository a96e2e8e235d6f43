"""Routing that reads no values: one decision for each distinct code among the segments.

Shape suffixes: T tokens, B sequences, N tokens of a sequence, D width, C width of R, E experts, R rows, k choices.
"""

import torch
from torch import Tensor, nn

from uniperceiver.flow import Flow
from uniperceiver.moe.conditions import Code, OfSegment
from uniperceiver.moe.gate import gate_weights, probabilities, top_k
from uniperceiver.moe.merged import Span
from uniperceiver.moe.route import Route, RowRoute
from uniperceiver.moe.router import draw_noise, gates_of
from uniperceiver.moe.settings import MoE
from uniperceiver.records import Decision


class Embedding(nn.Module):
    """A learned vector for each entry of a code."""

    def __init__(self, entries: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(entries, width))

    def forward(self, code_RC: Tensor) -> Tensor:
        return code_RC @ self.table


class RowGate(nn.Module):
    """R of a code (Eq. 7-9), and W_g."""

    def __init__(self, entries: int, width: int, experts: int, *, normed: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(entries, width) if normed else Embedding(entries, width)
        self.norm = nn.LayerNorm(width) if normed else nn.Identity()
        self.linear = nn.Linear(width, experts, bias=False)

    def forward(self, code_RC: Tensor) -> Tensor:
        """Logits, (R, E)."""
        return self.linear(self.norm(self.embed(code_RC)))


class RowRouter(nn.Module):
    """Decides once for each distinct code among the segments."""

    def __init__(self, condition: OfSegment, settings: MoE, width: int, *, layer: int, part: str) -> None:
        super().__init__()
        self.condition, self.settings, self.layer, self.part = condition, settings, layer, part
        gates = gates_of(settings, part) if condition.gated else 0
        entries = condition.width(settings)
        self.gates = nn.ModuleList(
            RowGate(entries, width, settings.experts, normed=condition.normed) for _ in range(gates)
        )

    def forward(self, x_TD: Tensor, flow: Flow) -> tuple[Route, Route]:
        code_S = tuple(self.condition.code(segment, self.settings) for segment in flow.segments)
        codes = tuple(dict.fromkeys(code_S))
        row_S = tuple(codes.index(code) for code in code_S)
        spans = _joined(flow.spans, row_S)
        if not self.condition.gated:
            route = RowRoute(flow, spans, codes, tuple((code.index(1.0),) for code in codes), None)
            return route, route
        with torch.autocast(flow.device.type, enabled=False):
            routes = [self._route(index, flow, spans, codes, row_S) for index in range(len(self.gates))]
        return routes[0], routes[-1]

    def _route(
        self, index: int, flow: Flow, spans: tuple[Span, ...], codes: tuple[Code, ...], row_S: tuple[int, ...]
    ) -> RowRoute:
        noise_RE = draw_noise((len(codes), self.settings.experts), self.settings, flow)
        code_RC = torch.tensor(codes, device=flow.device)
        logit_RE, probability_RE = probabilities(self.gates[index](code_RC), noise_RE)
        expert_Rk = top_k(probability_RE, self.settings.k)
        weight_Rk = gate_weights(probability_RE, expert_Rk, self.settings.renormalise)
        chosen_RE = torch.zeros_like(probability_RE, dtype=torch.bool).scatter_(1, expert_Rk, True)
        flow.decisions.append(
            Decision(
                layer=self.layer,
                part=self.part,
                gate=index,
                segments=flow.segments,
                logit_TE=logit_RE,
                probability_TE=probability_RE,
                wanted_TE=chosen_RE,
                chosen_TE=chosen_RE,
                weight_TE=torch.zeros_like(probability_RE).scatter(1, expert_Rk, weight_Rk),
                row_S=row_S,
                tokens_S=flow.tokens_S,
            )
        )
        return RowRoute(flow, spans, codes, tuple(map(tuple, expert_Rk.tolist())), weight_Rk)


def _joined(spans: tuple[tuple[int, int], ...], row_S: tuple[int, ...]) -> tuple[Span, ...]:
    """Segments as spans with their rows; neighbours of one row become one span."""
    joined: list[Span] = []
    for (start, stop), row in zip(spans, row_S, strict=True):
        if joined and joined[-1][1:] == (start, row):
            joined[-1] = (joined[-1][0], stop, row)
        else:
            joined.append((start, stop, row))
    return tuple(joined)
