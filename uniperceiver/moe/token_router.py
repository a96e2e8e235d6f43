"""Routing that reads values: a decision for every token, or every expert's choice of tokens; padding is not routed.

Shape suffixes: T tokens, B sequences, N tokens of a sequence, D width, C width of R, E experts, R rows, k choices.
"""

import torch
from torch import Tensor, nn

from uniperceiver.errors import UserError
from uniperceiver.moe.conditions import OfValues
from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.gate import batch_priority, expert_choice, gate_weights, probabilities, top_k
from uniperceiver.moe.pool import AttentionPool
from uniperceiver.moe.route import Route, TokenRoute
from uniperceiver.moe.router import draw_noise, gates_of
from uniperceiver.moe.settings import MoE
from uniperceiver.precision import at_least_float32
from uniperceiver.records import Decision


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
            for _ in range(gates_of(settings, part))
        )

    def forward(self, x_TD: Tensor, context: ForwardContext) -> tuple[Route, Route]:
        self._refuse_causal(context)
        with torch.autocast(context.device.type, enabled=False):
            x_BND = at_least_float32(context.unpack(x_TD))
            r_BNC = self.condition.represent(x_BND, self._pooled(x_BND, context))
            routes = [self._route(index, r_BNC, context) for index in range(len(self.gates))]
        return routes[0], routes[-1]

    def _pooled(self, x_BND: Tensor, context: ForwardContext) -> Tensor | None:
        """The pooled context of every sequence; in generation, that of the prefix is used again."""
        if self.pool is None:
            return None
        key = (self.layer, self.part)
        if key not in context.pooled:
            context.pooled[key] = self.pool(x_BND, context.shared_BN)
        return context.pooled[key]

    def _route(self, index: int, r_BNC: Tensor, context: ForwardContext) -> TokenRoute:
        gate, noise_TE = self.gates[index], self._noise(context)
        logit_TE, probability_TE = probabilities(context.pack(gate(r_BNC)), noise_TE)
        if self.condition.experts_choose:
            chosen_BNE = expert_choice(context.unpack(probability_TE), context.valid_BN, self.settings.k)
            wanted_TE = chosen_TE = context.pack(chosen_BNE)
            weight_TE = probability_TE * chosen_TE
        else:
            wanted_TE, chosen_TE, weight_TE = self._top(gate, probability_TE, context)
        context.decisions.append(
            Decision(
                layer=self.layer,
                part=self.part,
                gate=index,
                segments=context.segments,
                logit_TE=logit_TE,
                probability_TE=probability_TE,
                wanted_TE=wanted_TE,
                chosen_TE=chosen_TE,
                weight_TE=weight_TE,
                noise_TE=noise_TE,
                noise_scale=self.settings.noise / self.settings.experts,
                segment_T=context.segment_T,
            )
        )
        return TokenRoute(context, weight_TE, chosen_TE)

    def _top(self, gate: nn.Module, probability_TE: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor, Tensor]:
        """Each token's experts before and after capacity, and their weights."""
        expert_Tk = top_k(probability_TE, self.settings.k, gate.get_buffer("bias_E"))
        weight_Tk = gate_weights(probability_TE, expert_Tk, self.settings.renormalise)
        valid_T = context.segment_T >= 0
        wanted_Tk = kept_Tk = valid_T[:, None].expand_as(expert_Tk)
        factor = self._capacity(context)
        if factor is not None:
            kept_Tk = batch_priority(probability_TE, expert_Tk, valid_T, factor)
        nobody_TE = torch.zeros_like(probability_TE, dtype=torch.bool)
        wanted_TE, chosen_TE = (nobody_TE.scatter(1, expert_Tk, each) for each in (wanted_Tk, kept_Tk))
        weight_TE = torch.zeros_like(probability_TE).scatter(1, expert_Tk, weight_Tk.masked_fill(~kept_Tk, 0.0))
        return wanted_TE, chosen_TE, weight_TE

    def _capacity(self, context: ForwardContext) -> float | None:
        """The capacity factor; None for candidates, which are never dropped."""
        if context.segments[0].facts.side == "candidate":
            return None
        settings = self.settings
        return settings.evaluation_capacity if context.stream is None else settings.training_capacity

    def _noise(self, context: ForwardContext) -> Tensor | None:
        """Drawn for the batch as it was planned, so that a sample that was left out changes nothing for the others."""
        noise_NBE = draw_noise(context.length, context.planned or context.sequences, self.settings, context)
        if noise_NBE is None:
            return None
        noise_BNE = (noise_NBE if context.place_B is None else noise_NBE[:, context.place_B]).transpose(0, 1)
        return context.pack(noise_BNE)

    def _refuse_causal(self, context: ForwardContext) -> None:
        if not any(segment.causal for segment in context.segments):
            return
        if self.condition.experts_choose or self.settings.capacity:
            what = "expert choice" if self.condition.experts_choose else "capacity"
            raise UserError(
                f"moe: {what} would let a word know of the words after it, so it cannot be used for captions; "
                "use moe.condition=token or attribute without moe.capacity"
            )
