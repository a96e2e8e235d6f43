"""Routing that reads values: a decision for every token, or every expert's choice of tokens; padding is not routed.

Shape suffixes: T tokens, B sequences, N tokens of a sequence, M tokens that are looked at (N and their mean), D width,
h heads, d width of a head, Z width of R(x), E experts, k choices.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from uniperceiver.errors import UserError
from uniperceiver.moe.conditions import OfValues
from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.gate import (
    batch_priority,
    draw_noise,
    expert_choice,
    expert_choice_of_batch,
    gate_weights,
    gates_of,
    probabilities,
    top_k,
    with_answers,
)
from uniperceiver.moe.route import Route, Router, TokenRoute
from uniperceiver.moe.settings import MoE
from uniperceiver.precision import at_least_float32
from uniperceiver.records import Decision


class AttentionPool(nn.Module):
    """AttnPool of Eq. 6: multi-head attention whose only query is the mean token, which is also looked at.

    It is CLIP's AttentionPool2d.

    Without CLIP's position table, as sequences differ in length. The query is projected into the space of the
    tokens, and values after they were averaged, so that no token is projected.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=False)  # softmax does not see a key's bias: the same for all tokens

    def forward(self, x_BND: Tensor, shared_BN: Tensor | None) -> Tensor:
        """(B, D) of the tokens that are marked (None: all; at least one in each sequence)."""
        if shared_BN is not None:
            x_BND = x_BND.masked_fill(~shared_BN[:, :, None], 0.0)  # 0 * NaN of padding would be NaN
        mean_BD = x_BND.mean(dim=1) if shared_BN is None else x_BND.sum(dim=1) / shared_BN.sum(dim=1)[:, None]
        query_Bhd = self.query(mean_BD).unflatten(-1, (self.heads, -1))
        key_hdD = self.key.weight.unflatten(0, (self.heads, -1))
        query_BhD = torch.einsum("bhd,hdx->bhx", query_Bhd, key_hdD) * query_Bhd.shape[-1] ** -0.5
        score_BhN = query_BhD @ x_BND.transpose(1, 2)
        if shared_BN is not None:
            score_BhN = score_BhN.masked_fill(~shared_BN[:, None], float("-inf"))
        weight_BhM = torch.cat([score_BhN, query_BhD @ mean_BD[:, :, None]], dim=-1).softmax(dim=-1)
        pooled_BhD = weight_BhM[..., :-1] @ x_BND + weight_BhM[..., -1:] * mean_BD[:, None]
        value_hdD = self.value.weight.unflatten(0, (self.heads, -1))
        value_Bhd = torch.einsum("bhx,hdx->bhd", pooled_BhD, value_hdD)
        return self.out(value_Bhd.flatten(1) + self.value.bias)


class TokenGate(nn.Module):
    """W_g, and the bias for selection where there is one."""

    def __init__(self, width: int, experts: int, *, selection_bias: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(width, experts, bias=False)
        self.register_buffer("bias_E", torch.zeros(experts) if selection_bias else None)

    def forward(self, r_BNZ: Tensor) -> Tensor:
        """Logits, (B, N, E)."""
        return self.linear(r_BNZ)


class TokenRouter(Router):
    """Decides for every token; padding is not routed."""

    compiles: ClassVar[bool] = False

    def __init__(self, condition: OfValues, settings: MoE, width: int, *, heads: int, layer: int, part: str) -> None:
        super().__init__()
        self.condition, self.settings, self.layer, self.part = condition, settings, layer, part
        self.pool = AttentionPool(width, heads) if condition.pools else None
        self.gates = nn.ModuleList(
            TokenGate(condition.width(settings, width), settings.experts, selection_bias=settings.selection_bias)
            for _ in range(gates_of(settings, part))
        )

    def forward(self, x_TD: Tensor, context: ForwardContext) -> tuple[Route, Route]:
        self._refuse_causal(context)
        with torch.autocast(context.device.type, enabled=False):
            x_BND = at_least_float32(context.unpack(x_TD))
            r_BNZ = self.condition.represent(x_BND, self._pooled(x_BND, context))
            routes = [self._route(index, r_BNZ, context) for index in range(len(self.gates))]
        return routes[0], routes[-1]

    def _pooled(self, x_BND: Tensor, context: ForwardContext) -> Tensor | None:
        """The pooled context of every sequence; in generation, that of the prefix is used again."""
        if self.pool is None:
            return None
        key = (self.layer, self.part)
        if key not in context.pooled:
            context.pooled[key] = self.pool(x_BND, context.shared_BN)
        return context.pooled[key]

    def _route(self, index: int, r_BNZ: Tensor, context: ForwardContext) -> TokenRoute:
        gate, noise_TE = self.gates[index], self._noise(context)
        logit_TE, probability_TE = probabilities(context.pack(gate(r_BNZ)), noise_TE)
        if self.condition.experts_choose:
            wanted_TE = chosen_TE = context.pack(self._chosen(context.unpack(probability_TE), context))
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

    def _chosen(self, probability_BNE: Tensor, context: ForwardContext) -> Tensor:
        """The tokens that each expert takes, bool (B, N, E)."""
        choice = expert_choice_of_batch if self.settings.group == "batch" else expert_choice
        chosen_BNE = choice(probability_BNE, context.valid_BN, self.settings.k)
        if self.settings.serve_answer and context.answer_BN is not None:
            chosen_BNE = with_answers(chosen_BNE, probability_BNE, context.answer_BN)
        return chosen_BNE

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
        wanted_TE, chosen_TE = (nobody_TE.scatter(1, expert_Tk, mark_Tk) for mark_Tk in (wanted_Tk, kept_Tk))
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
        key = self.condition.not_causal(self.settings)
        if key is not None and any(segment.causal for segment in context.segments):
            what = "capacity" if key == "moe.capacity" else "expert choice"
            raise UserError(
                f"moe: {what} would let a word know of the words after it, so it cannot be used for captions; "
                "use moe.condition=token or attribute without moe.capacity"
            )
