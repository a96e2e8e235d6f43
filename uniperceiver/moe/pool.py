"""AttnPool of Eq. 6: one vector for the tokens of a sequence, by attention as in CLIP.

Shape suffixes: B sequences, N tokens, M the tokens and their mean, D width, H heads, d head width.
"""

import torch
from torch import Tensor, nn


class AttentionPool(nn.Module):
    """Multi-head attention whose only query is the mean token, which is also looked at (CLIP's AttentionPool2d).

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
        query_BHd = self.query(mean_BD).unflatten(-1, (self.heads, -1))
        key_HdD = self.key.weight.unflatten(0, (self.heads, -1))
        query_BHD = torch.einsum("bhd,hdx->bhx", query_BHd, key_HdD) * query_BHd.shape[-1] ** -0.5
        score_BHN = query_BHD @ x_BND.transpose(1, 2)
        if shared_BN is not None:
            score_BHN = score_BHN.masked_fill(~shared_BN[:, None], float("-inf"))
        weight_BHM = torch.cat([score_BHN, query_BHD @ mean_BD[:, :, None]], dim=-1).softmax(dim=-1)
        pooled_BHD = weight_BHM[..., :-1] @ x_BND + weight_BHM[..., -1:] * mean_BD[:, None]
        value_HdD = self.value.weight.unflatten(0, (self.heads, -1))
        value_BHd = torch.einsum("bhx,hdx->bhd", pooled_BHD, value_HdD)
        return self.out(value_BHd.flatten(1) + self.value.bias)
