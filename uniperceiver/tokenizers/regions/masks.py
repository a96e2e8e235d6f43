"""Masks of proposals: the product of a query's vector with that of every pixel of a fine map.

Source: Cheng et al., "Mask2Former" (arXiv 2112.01527).

Shape suffixes: B pictures, Q queries, N proposals, C channels, H W pixels of a mask, D width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniperceiver.precision import at_least_float32
from uniperceiver.tokenizers.regions.blocks import Perceptron

_SIDE = 28  # pixels along a side of the masks that become parts of tokens (Uni-Perceiver v2)


class MaskHead(nn.Module):
    """What draws the masks of queries.

    Args:
        channels: of the fine map.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.fine = nn.Conv2d(channels, width, 1)
        self.coarse = nn.Conv2d(width, width, 1, bias=False)  # beside `fine`, which has one
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.vector = Perceptron(width, width, width, width)

    @torch.no_grad()
    def initialise(self) -> None:
        """Biases of convolutions are 0, as those of linear maps."""
        nn.init.zeros_(self.fine.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.mix.bias)  # type: ignore[arg-type]

    def pixels(self, fine_BCHW: Tensor, coarse_BDHW: Tensor) -> Tensor:
        """(B, D, H, W): a vector for every pixel of the fine map, which knows what the coarse map sees there."""
        fine_BDHW = self.fine(fine_BCHW)
        spread_BDHW = F.interpolate(
            self.coarse(coarse_BDHW), size=fine_BDHW.shape[2:], mode="bilinear", align_corners=False
        )
        mixed_BDHW: Tensor = self.mix(F.gelu(fine_BDHW + spread_BDHW))
        return mixed_BDHW

    def forward(self, query_BQD: Tensor, pixel_BDHW: Tensor) -> Tensor:
        """(B, Q, H, W) float32: logits."""
        vector_BQD = at_least_float32(self.vector(query_BQD)) * (1 / math.sqrt(query_BQD.shape[2]))
        with torch.autocast(query_BQD.device.type, enabled=False):
            logit_BQP = vector_BQD @ at_least_float32(pixel_BDHW).flatten(2)
        return logit_BQP.unflatten(2, pixel_BDHW.shape[2:])


def small_masks(mask_BNHW: Tensor) -> Tensor:
    """(B, N, 784): probabilities of mask logits, pooled to 28 x 28."""
    return F.adaptive_avg_pool2d(mask_BNHW.sigmoid(), _SIDE).flatten(2)
