"""Routers: the gates of a half-block (attention or FFN), from its input to the routes of its two linears.

Shape suffixes: T tokens, B sequences, N tokens of a sequence, D width, E experts, R rows, k choices.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from uniperceiver.errors import UserError
from uniperceiver.flow import Flow
from uniperceiver.moe.conditions import Code, OfSegment, OfValues
from uniperceiver.moe.gate import batch_priority, expert_choice, gate_weights, probabilities, top_k
from uniperceiver.moe.merged import Span
from uniperceiver.moe.pool import AttentionPool
from uniperceiver.moe.route import Route, RowRoute, TokenRoute, Unrouted
from uniperceiver.moe.settings import MoE
from uniperceiver.records import Decision


class Router(Protocol):
    """From a half-block's input to the routes of its first and its second linear."""

    def __call__(self, x_TD: Tensor, flow: Flow) -> tuple[Route, Route]: ...


class NoRouter(nn.Module):
    """A dense half-block."""

    def forward(self, x_TD: Tensor, flow: Flow) -> tuple[Route, Route]:
        return Unrouted(), Unrouted()


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
        gates = _gates(settings, part) if condition.gated else 0
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
            routes = [self._route(gate, flow, spans, codes, row_S) for gate in self.gates]
        return routes[0], routes[-1]

    def _route(
        self, gate: nn.Module, flow: Flow, spans: tuple[Span, ...], codes: tuple[Code, ...], row_S: tuple[int, ...]
    ) -> RowRoute:
        noise_RE = _noise((len(codes), self.settings.experts), self.settings, flow)
        logit_RE, probability_RE = probabilities(gate(torch.tensor(codes, device=flow.device)), noise_RE)
        expert_Rk = top_k(probability_RE, self.settings.k)
        weight_Rk = gate_weights(probability_RE, expert_Rk, self.settings.renormalise)
        chosen_RE = torch.zeros_like(probability_RE, dtype=torch.bool).scatter_(1, expert_Rk, True)
        flow.decisions.append(
            Decision(
                layer=self.layer,
                part=self.part,
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


class TokenGate(nn.Module):
    """W_g, and the bias for selection where there is one."""

    def __init__(self, width: int, experts: int, *, selection_bias: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(width, experts, bias=False)
        self.register_buffer("bias_E", torch.zeros(experts) if selection_bias else None)

    def forward(self, r_BNC: Tensor) -> Tensor:
        """Logits, (B, N, E)."""
        return self.linear(r_BNC)


class TokenRouter(nn.Module):
    """Decides for every token; padding is not routed."""

    def __init__(self, condition: OfValues, settings: MoE, width: int, *, heads: int, layer: int, part: str) -> None:
        super().__init__()
        self.condition, self.settings, self.layer, self.part = condition, settings, layer, part
        self.pool = AttentionPool(width, heads) if condition.pools else None
        wide = condition.represent(torch.zeros(1, 1, width), torch.zeros(1, width)).shape[-1]
        self.gates = nn.ModuleList(
            TokenGate(wide, settings.experts, selection_bias=settings.selection_bias)
            for _ in range(_gates(settings, part))
        )

    def forward(self, x_TD: Tensor, flow: Flow) -> tuple[Route, Route]:
        self._refuse_causal(flow)
        with torch.autocast(flow.device.type, enabled=False):
            x_BND = flow.unpack(x_TD).float()
            r_BNC = self.condition.represent(x_BND, self._context(x_BND, flow))
            routes = [self._route(gate, r_BNC, flow) for gate in self.gates]
        return routes[0], routes[-1]

    def _context(self, x_BND: Tensor, flow: Flow) -> Tensor | None:
        """The pooled context of every sequence; in generation, that of the prefix is used again."""
        if self.pool is None:
            return None
        key = (self.layer, self.part)
        if key not in flow.context:
            flow.context[key] = self.pool(x_BND, flow.shared_BN)
        return flow.context[key]

    def _route(self, gate: nn.Module, r_BNC: Tensor, flow: Flow) -> TokenRoute:
        logit_TE = flow.pack(gate(r_BNC))
        logit_TE, probability_TE = probabilities(logit_TE, self._noise(flow))
        if self.condition.experts_choose:
            chosen_BNE = expert_choice(flow.unpack(probability_TE), flow.valid_BN, self.settings.k)
            wanted_TE = chosen_TE = flow.pack(chosen_BNE)
            weight_TE = probability_TE * chosen_TE
        else:
            wanted_TE, chosen_TE, weight_TE = self._top(gate, probability_TE, flow)
        flow.decisions.append(
            Decision(
                layer=self.layer,
                part=self.part,
                segments=flow.segments,
                logit_TE=logit_TE,
                probability_TE=probability_TE,
                wanted_TE=wanted_TE,
                chosen_TE=chosen_TE,
                weight_TE=weight_TE,
                segment_T=flow.segment_T,
            )
        )
        return TokenRoute(flow, weight_TE, chosen_TE)

    def _top(self, gate: nn.Module, probability_TE: Tensor, flow: Flow) -> tuple[Tensor, Tensor, Tensor]:
        """Each token's experts before and after capacity, and their weights."""
        expert_Tk = top_k(probability_TE, self.settings.k, gate.get_buffer("bias_E"))
        weight_Tk = gate_weights(probability_TE, expert_Tk, self.settings.renormalise)
        valid_T = flow.segment_T >= 0
        wanted_Tk = kept_Tk = valid_T[:, None].expand_as(expert_Tk)
        factor = self._capacity(flow)
        if factor is not None:
            kept_Tk = batch_priority(probability_TE, expert_Tk, valid_T, factor)
        nobody_TE = torch.zeros_like(probability_TE, dtype=torch.bool)
        wanted_TE, chosen_TE = (nobody_TE.scatter(1, expert_Tk, each) for each in (wanted_Tk, kept_Tk))
        weight_TE = torch.zeros_like(probability_TE).scatter(1, expert_Tk, weight_Tk.masked_fill(~kept_Tk, 0.0))
        return wanted_TE, chosen_TE, weight_TE

    def _capacity(self, flow: Flow) -> float | None:
        """The capacity factor; None for candidates, which are never dropped."""
        if flow.segments[0].facts.side == "candidate":
            return None
        settings = self.settings
        return settings.evaluation_capacity if flow.stream is None else settings.training_capacity

    def _noise(self, flow: Flow) -> Tensor | None:
        shape = (flow.planned or flow.sequences, flow.length, self.settings.experts)
        noise_BNE = _noise(shape, self.settings, flow)
        if noise_BNE is None:
            return None
        return flow.pack(noise_BNE if flow.place_B is None else noise_BNE[flow.place_B])

    def _refuse_causal(self, flow: Flow) -> None:
        if not any(segment.causal for segment in flow.segments):
            return
        if self.condition.experts_choose or self.settings.training_capacity is not None:
            what = "expert choice" if self.condition.experts_choose else "capacity"
            raise UserError(
                f"moe: {what} would let a word know of the words after it, so it cannot be used for captions; "
                "use moe.condition=token or attribute without moe.capacity"
            )


def _gates(settings: MoE, part: str) -> int:
    return settings.attention_gates if part == "attention" else settings.ffn_gates


def _noise(shape: tuple[int, ...], settings: MoE, flow: Flow) -> Tensor | None:
    """N(0, (noise / E)^2) in training."""
    if flow.stream is None or settings.noise == 0:
        return None
    drawn = torch.randn(shape, generator=flow.stream) * (settings.noise / settings.experts)
    return drawn.to(flow.device)


def _joined(spans: tuple[tuple[int, int], ...], row_S: tuple[int, ...]) -> tuple[Span, ...]:
    """Segments as spans with their rows; neighbours of one row become one span."""
    joined: list[Span] = []
    for (start, stop), row in zip(spans, row_S, strict=True):
        if joined and joined[-1][1:] == (start, row):
            joined[-1] = (joined[-1][0], stop, row)
        else:
            joined.append((start, stop, row))
    return tuple(joined)
