"""The layers that a proposal network is made of: linear maps in float32, perceptrons, and blocks of attention.

Shape suffixes: B pictures, N tokens, M tokens looked at, h heads, D width.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniperceiver.precision import at_least_float32

_FFN = 4  # how much wider the inside of an FFN is


class ExactLinear(nn.Linear):
    """A linear map in float32, also under autocast: what boxes and places follow from is never rounded to 16 bit."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., outputs) float32, or float64 from float64."""
        with torch.autocast(input.device.type, enabled=False):
            bias = None if self.bias is None else at_least_float32(self.bias)
            return F.linear(at_least_float32(input), at_least_float32(self.weight), bias)


class Perceptron(nn.Sequential):
    """Linear maps with ReLU between them.

    Args:
        widths: of the input, of what is between, and of the output.
        exact: compute in float32 also under autocast.
    """

    def __init__(self, *widths: int, exact: bool = False) -> None:
        linear = ExactLinear if exact else nn.Linear
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [linear(inputs, outputs), nn.ReLU()]
        super().__init__(*layers[:-1])

    @property
    def last(self) -> nn.Linear:
        """The map that makes the output."""
        last = self[-1]
        assert isinstance(last, nn.Linear)
        return last


class PlainAttention(nn.Module):
    """Softmax attention of some tokens over others, with projections of its own and scale 1/sqrt(head width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=False)  # which would add the same to all scores of a query

    def forward(self, query_BND: Tensor, key_BMD: Tensor, value_BMD: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, D).

        Args:
            mask: broadcast to (B, h, N, M); bool, False: not looked at; else added to the scores.
        """
        query, key, value = (
            linear(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for linear, x in ((self.query, query_BND), (self.key, key_BMD), (self.value, value_BMD))
        )
        y_BhNd = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        projected: Tensor = self.out(y_BhNd.transpose(1, 2).flatten(2))
        return projected


class RegionBlock(nn.Module):
    """x + Attention(LN x), then x + FFN(LN x), without layer scale, which slows short runs.

    Not the encoder's block: that one takes packed tokens and routes, and has no positions on queries and keys.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-5), nn.LayerNorm(width, eps=1e-5)
        self.attention = PlainAttention(width, heads)
        self.ffn = nn.Sequential(nn.Linear(width, _FFN * width), nn.GELU(), nn.Linear(_FFN * width, width))

    def forward(
        self,
        x_BND: Tensor,
        position_BND: Tensor | None = None,
        beside: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """(B, N, D).

        Args:
            position_BND: added to what queries and keys are made of, not to values.
            beside: tokens that are looked at, too, behind their own, and their positions, (B, Q, D) each.
            mask: bool, broadcast to (B, h, N, N + Q); False: not looked at.
        """
        value_BMD = self.norm1(x_BND)
        query_BND = key_BMD = value_BMD if position_BND is None else value_BMD + position_BND
        if beside is not None:
            beside_BQD = self.norm1(beside[0])
            value_BMD = torch.cat([value_BMD, beside_BQD], dim=1)
            key_BMD = torch.cat([key_BMD, beside_BQD + beside[1]], dim=1)
        x_BND = x_BND + self.attention(query_BND, key_BMD, value_BMD, mask)
        residual_BND: Tensor = x_BND + self.ffn(self.norm2(x_BND))
        return residual_BND
