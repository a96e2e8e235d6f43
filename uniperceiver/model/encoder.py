"""The Transformer encoder shared by all modalities, tasks and candidates.

Shape suffixes: B sequences, N tokens, Q tokens that are updated, D width, F FFN width, L layers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniperceiver.model.attention import KeyValueCache, visible
from uniperceiver.records import Encoded, Tokens


class FeedForward(nn.Module):
    """Linear, exact (erf) GELU, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        return self.linear2(F.gelu(self.linear1(x_BND)))


class Block(nn.Module):
    """x + scale1 * Attention(norm1 x), then x + scale2 * FFN(norm2 x); a branch may be dropped per sample."""

    def __init__(self, width: int, attention: nn.Module, ffn: nn.Module, layer_scale: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-5), nn.LayerNorm(width, eps=1e-5)
        self.attention, self.ffn = attention, ffn
        self.scale1 = nn.Parameter(torch.full((width,), layer_scale))
        self.scale2 = nn.Parameter(torch.full((width,), layer_scale))

    def forward(
        self,
        x_BND: Tensor,
        mask: Tensor | None,
        keep_2B: Tensor | None,
        *,
        summary: bool = False,
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """(B, Q, D); with `summary` only the first token is updated and returned."""
        y = self.attention(self.norm1(x_BND), mask, summary=summary, cache=cache, layer=layer)
        x = _add(x_BND[:, :1] if summary else x_BND, self.scale1, y, keep_2B, 0)
        return _add(x, self.scale2, self.ffn(self.norm2(x)), keep_2B, 1)


def _add(x: Tensor, scale_D: Tensor, branch: Tensor, keep_2B: Tensor | None, which: int) -> Tensor:
    """x + scale * branch, one fused pass over the residual stream."""
    if keep_2B is not None:
        branch = branch * keep_2B[which][:, None, None]
    return torch.addcmul(x, branch.to(x.dtype), scale_D)


class Encoder(nn.Module):
    """A stack of blocks without a final norm."""

    def __init__(self, blocks: list[Block], drop_path: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.drop_path = drop_path

    def forward(
        self,
        tokens: Tokens,
        stream: torch.Generator | None = None,
        *,
        summary: bool = False,
        cache: KeyValueCache | None = None,
        keep_layers: bool = False,
    ) -> Encoded:
        """Encode the tokens.

        Args:
            stream: draws DropPath in training; None: nothing is dropped.
            summary: only the first token of the last layer is wanted, so only it is computed there.
            cache: keys and values of earlier tokens, which are looked at and to which these are written.
            keep_layers: also return what every layer gives.
        """
        x, layers = tokens.x_BND, []
        mask = visible(tokens, cached=0 if cache is None else cache.length)
        keep_L2B = self._keep(tokens, stream)
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            keep_2B = None if keep_L2B is None else keep_L2B[index]
            x = block(x, mask, keep_2B, summary=summary and index == last, cache=cache, layer=index)
            if keep_layers:
                layers.append(x)
        return Encoded(x_BND=x, segments=tokens.segments, layers=tuple(layers))

    def _keep(self, tokens: Tokens, stream: torch.Generator | None) -> Tensor | None:
        """DropPath's factors, (L, 2, B): 0 with probability drop_path, else 1 / (1 - drop_path).

        Drawn for the batch as it was planned, so that a sample that was left out changes nothing for the others.
        """
        if stream is None or self.drop_path == 0.0:
            return None
        planned = tokens.planned or tokens.x_BND.shape[0]
        keep_L2B = torch.rand(len(self.blocks), 2, planned, generator=stream) >= self.drop_path
        if tokens.place_B is not None:
            keep_L2B = keep_L2B[:, :, tokens.place_B.cpu()]
        return keep_L2B.to(tokens.x_BND) / (1.0 - self.drop_path)
