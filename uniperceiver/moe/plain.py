"""Experts as Eq. 4 writes them: every expert on every token. Slow; the fast paths are proved against it.

Shape suffixes: T tokens, E experts, I inputs, O outputs, R rows, k choices.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from uniperceiver.moe.merged_linear import Span


def plain(x_TI: Tensor, weight_TE: Tensor, experts: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    """y = sum_e g_e expert_e(x) of every token, (T, O); experts are linears or whole FFNs."""
    terms = [weight_T[:, None] * expert(x_TI) for weight_T, expert in zip(weight_TE.unbind(1), experts, strict=True)]
    return torch.stack(terms).sum(dim=0)


def weights_of_rows(
    spans: Sequence[Span], chosen: Sequence[Sequence[int]], weight_Rk: Tensor, tokens: int, experts: int
) -> Tensor:
    """The weights that the tokens of each row give to the chosen experts, and 0 to the others: (T, E)."""
    expert_Rk = torch.tensor([list(row) for row in chosen], device=weight_Rk.device)
    weight_RE = weight_Rk.new_zeros(len(chosen), experts).scatter(1, expert_Rk, weight_Rk)
    row_T = torch.zeros(tokens, dtype=torch.int64, device=weight_Rk.device)
    for start, stop, row in spans:
        row_T[start:stop] = row
    return weight_RE.index_select(0, row_T)
