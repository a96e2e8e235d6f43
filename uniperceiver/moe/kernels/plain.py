"""Experts as Eq. 4 writes them: every expert on every token. Slow; the fast ways are proved against it.

Shape suffixes: T tokens, E experts, I inputs, O outputs, G segment groups, k choices.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from uniperceiver.moe.kernels.by_group import Span


def plain(x_TI: Tensor, weight_TE: Tensor, experts: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    """y = sum_e g_e expert_e(x) of every token, (T, O); experts are linears or whole FFNs."""
    terms = [weight_T[:, None] * expert(x_TI) for weight_T, expert in zip(weight_TE.unbind(1), experts, strict=True)]
    return torch.stack(terms).sum(dim=0)


def weights_of_groups(
    spans: Sequence[Span], chosen: Sequence[Sequence[int]], weight_Gk: Tensor, tokens: int, experts: int
) -> Tensor:
    """The weights that the tokens of each group give to the chosen experts, and 0 to the others: (T, E)."""
    expert_Gk = torch.tensor([list(expert_k) for expert_k in chosen], device=weight_Gk.device)
    weight_GE = weight_Gk.new_zeros(len(chosen), experts).scatter(1, expert_Gk, weight_Gk)
    group_T = torch.zeros(tokens, dtype=torch.int64, device=weight_Gk.device)
    for start, stop, group in spans:
        group_T[start:stop] = group
    return weight_GE.index_select(0, group_T)
