"""The gate: g = top_k(softmax(W_g R + noise)) (Eq. 3), in float32.

Shape suffixes: T tokens or segment groups, B sequences, N tokens of a sequence, G groups of sequences, M tokens of such
a group, E experts, k choices of a token.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.settings import MoE

_EPS = torch.finfo(torch.float32).eps
GROUP_TOKENS = 2048  # among which experts choose at most, where they choose among several sequences


def probabilities(logit_TE: Tensor, noise_TE: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits with the noise, and their softmax over all experts."""
    if noise_TE is not None:
        logit_TE = logit_TE + noise_TE
    return logit_TE, logit_TE.softmax(dim=-1)


def top_k(probability_TE: Tensor, k: int, bias_E: Tensor | None = None) -> Tensor:
    """The k likeliest experts of each token, int64 (T, k), likeliest first; a bias moves selection only."""
    score_TE = probability_TE.detach()
    return (score_TE if bias_E is None else score_TE + bias_E).topk(k, dim=-1).indices


def gate_weights(probability_TE: Tensor, expert_Tk: Tensor, renormalise: bool) -> Tensor:
    """Weights of the chosen experts, (T, k): their probabilities, divided by their sum if asked."""
    weight_Tk = probability_TE.gather(-1, expert_Tk)
    return weight_Tk / weight_Tk.sum(dim=-1, keepdim=True).clamp(min=_EPS) if renormalise else weight_Tk


def expert_choice(probability_BNE: Tensor, valid_BN: Tensor | None, k: int) -> Tensor:
    """Which tokens each expert takes, bool (B, N, E): of every sequence the k * tokens / E it likes best, at least one.

    (Expert choice routing, Zhou et al. 2022; a group is one sequence, so that sequences do not compete.)
    """
    n, experts = probability_BNE.shape[1:]
    score_BNE = probability_BNE.detach()
    if valid_BN is None:
        valid_BN = torch.ones(score_BNE.shape[:2], dtype=torch.bool, device=score_BNE.device)
    score_BNE = score_BNE.masked_fill(~valid_BN[:, :, None], -1.0)
    order_BNE = score_BNE.argsort(dim=1, descending=True, stable=True)
    rank_BNE = torch.empty_like(order_BNE).scatter_(
        1, order_BNE, torch.arange(n, device=order_BNE.device)[None, :, None].expand_as(order_BNE)
    )
    room_B = (valid_BN.sum(dim=1) * k / experts).ceil().clamp(min=1)
    return (rank_BNE < room_B[:, None, None]) & valid_BN[:, :, None]


def expert_choice_of_batch(
    probability_BNE: Tensor, valid_BN: Tensor | None, k: int, most: int = GROUP_TOKENS
) -> Tensor:
    """As `expert_choice`, among the tokens of several whole sequences: as many as have `most` tokens, padding counted.

    So a short sequence is not computed by every expert (of three tokens, each would have sixteen experts), and which
    tokens are chosen depends on the sequences beside them. (IMP's groups, which are cut anywhere.)
    """
    b, n, experts = probability_BNE.shape
    if valid_BN is None:
        valid_BN = torch.ones(b, n, dtype=torch.bool, device=probability_BNE.device)
    groups = -(-b // max(1, most // n))
    rows = -(-b // groups)
    spare = groups * rows - b  # sequences of padding, so that all groups are of one size
    score_GME = F.pad(probability_BNE.detach(), (0, 0, 0, 0, 0, spare)).reshape(groups, rows * n, experts)
    valid_GM = F.pad(valid_BN, (0, 0, 0, spare)).reshape(groups, rows * n)
    return expert_choice(score_GME, valid_GM, k).reshape(-1, n, experts)[:b]


def with_answers(chosen_BNE: Tensor, probability_BNE: Tensor, answer_BN: Tensor) -> Tensor:
    """The choice of the experts, bool (B, N, E), and each answer that none of them took at the one it likes best."""
    lacking_BN = answer_BN & ~chosen_BNE.any(dim=2)
    best_BN1 = probability_BNE.detach().argmax(dim=2, keepdim=True)
    return chosen_BNE | torch.zeros_like(chosen_BNE).scatter(2, best_BN1, lacking_BN[:, :, None])


def batch_priority(probability_TE: Tensor, expert_Tk: Tensor, valid_T: Tensor, factor: float) -> Tensor:
    """Which assignments an expert has room for, bool (T, k): factor * k * tokens / E of them.

    First choices come before second ones, and tokens with a higher top probability before others (batch-prioritised
    routing, V-MoE).
    """
    experts, k = probability_TE.shape[1], expert_Tk.shape[1]
    room = torch.ceil(factor * k * valid_T.sum() / experts)
    priority_T = probability_TE.detach().amax(dim=-1).masked_fill(~valid_T, -1.0).argsort(descending=True, stable=True)
    in_order_TkE = F.one_hot(expert_Tk[priority_T], experts) * valid_T[priority_T, None, None]
    first_kTE = in_order_TkE.transpose(0, 1).flatten(0, 1)  # all first choices, then all second ones
    place_TkE = (first_kTE.cumsum(dim=0) - first_kTE).unflatten(0, (k, -1)).transpose(0, 1)
    fits_Tk = ((place_TkE < room) & in_order_TkE.bool()).any(dim=-1)
    return torch.empty_like(fits_Tk).scatter_(0, priority_T[:, None].expand_as(fits_Tk), fits_Tk)


def gates_of(settings: MoE, part: str) -> int:
    """How many gates an attention or FFN has; whole-FFN experts are chosen once."""
    if part == "attention":
        return settings.attention_gates
    return 1 if settings.level == "ffn" else settings.ffn_gates


def draw_noise(rows: int, columns: int, settings: MoE, context: ForwardContext) -> Tensor | None:
    """N(0, (noise / E)^2) in training, (rows, columns, E).

    A gate takes one number from the pass's stream and draws row after row from a stream of its own, so neither its
    first rows nor what other gates draw depend on how many rows there are: on padding, or on a summary alone.
    """
    if context.stream is None or settings.noise == 0:
        return None
    own = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=context.stream)))
    wide = columns * settings.experts
    # Normals are drawn in blocks of 16: of whole blocks, more of them begin like fewer.
    drawn = torch.randn(rows, -(-wide // 16) * 16, generator=own)[:, :wide] * (settings.noise / settings.experts)
    return drawn.unflatten(1, (columns, settings.experts)).to(context.device)
