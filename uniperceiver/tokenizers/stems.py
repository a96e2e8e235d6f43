"""PIXELS -> CONTENT OF TOKENS: a linear map of each patch, or a few convolutions over the whole picture.

Shape suffixes: B sequences, F frames, T times (groups of `depth` frames), C channels, H W pixels, G tokens (by time,
then row, then column), P values of a patch, D width.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_CHANNELS = 3
_GROUPS = 8  # of channels that a GroupNorm takes together


def whole_times(pixels_BFCHW: Tensor, depth: int) -> Tensor:
    """(B, T, depth * C, H, W): the frames of a time one after the other, as channels.

    The last frame is repeated where the frames do not fill a time: a still image shows the same frame `depth` times.
    """
    missing = -pixels_BFCHW.shape[1] % depth
    if missing:
        last = pixels_BFCHW[:, -1:].expand(-1, missing, -1, -1, -1)
        pixels_BFCHW = torch.cat([pixels_BFCHW, last], dim=1)
    return pixels_BFCHW.unflatten(1, (-1, depth)).flatten(2, 3)


def patches(pixels_BFCHW: Tensor, side: int, depth: int = 1) -> Tensor:
    """Non-overlapping patches of `depth` frames, (B, G, depth * C * side * side), in order of time, then rows."""
    pixels_BTCHW = whole_times(pixels_BFCHW, depth)
    b, times, c, h, w = pixels_BTCHW.shape
    rows, columns = h // side, w // side
    split = pixels_BTCHW.reshape(b, times, c, rows, side, columns, side)
    return split.permute(0, 1, 3, 5, 2, 4, 6).reshape(b, times * rows * columns, c * side * side)


def kept(value_BGP: Tensor, keep_BG: Tensor) -> Tensor:
    """The values of those places alone, in their order; `keep_BG` has fewer columns than there are places."""
    return value_BGP.gather(1, keep_BG[..., None].expand(-1, -1, value_BGP.shape[2]))


def halving_layers(channels: Sequence[int]) -> nn.Sequential:
    """3x3 convolutions of stride 2 between so many channels, each with GroupNorm and GELU."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(channels):
        layers += [
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
            nn.GroupNorm(math.gcd(_GROUPS, outputs), outputs),
            nn.GELU(),
        ]
    return nn.Sequential(*layers)


class LinearStem(nn.Linear):
    """A linear map of each patch, as in the original release and in ViT.

    Args:
        patch: pixels along a patch's side.
        depth: frames in a patch.
    """

    def __init__(self, width: int, *, patch: int, depth: int) -> None:
        super().__init__(depth * _CHANNELS * patch * patch, width)
        self.patch, self.depth = patch, depth

    def forward(self, pixels_BFCHW: Tensor, keep_BG: Tensor | None = None) -> Tensor:
        """(B, G, D), of the kept patches alone if they are given."""
        patch_BGP = patches(pixels_BFCHW, self.patch, self.depth)
        return F.linear(patch_BGP if keep_BG is None else kept(patch_BGP, keep_BG), self.weight, self.bias)


class ConvStem(nn.Module):
    """3x3 convolutions of stride 2, GroupNorm and GELU until a pixel is a patch, then a linear map.

    Neighbouring patches overlap, and edges are found once for all places: small models learn from pictures in far fewer
    steps (docs/performance.md).

    Args:
        patch: pixels along a patch's side, a power of 2.
        depth: frames in a patch.

    Source: Xiao et al., "Early Convolutions Help Transformers See Better" (arXiv 2106.14881), with GroupNorm instead of
    BatchNorm, as a token must not depend on the other samples of its batch.
    """

    def __init__(self, width: int, *, patch: int, depth: int) -> None:
        super().__init__()
        halvings = patch.bit_length() - 1
        if patch < 2 or patch != 1 << halvings:
            raise ValueError(f"a stem of convolutions halves the picture again and again: {patch} is no power of 2")
        channels = [depth * _CHANNELS, *(max(width >> (halvings - 1 - place), 16) for place in range(halvings))]
        self.layers = halving_layers(channels)
        self.linear = nn.Linear(channels[-1], width)
        self.depth = depth
        self.channels = tuple(channels[1:])  # of each stage

    def stages(self, x_BCHW: Tensor) -> list[Tensor]:
        """(B, C, H, W) maps of pictures after each convolution: with strides of 2, 4, ... pixels, up to a patch."""
        maps = []
        for layer in self.layers:
            x_BCHW = layer(x_BCHW)
            if isinstance(layer, nn.GELU):
                maps.append(x_BCHW)
        return maps

    def forward(self, pixels_BFCHW: Tensor, keep_BG: Tensor | None = None) -> Tensor:
        """(B, G, D), of the kept patches alone if they are given: the convolutions still see the whole picture."""
        pixels_BTCHW = whole_times(pixels_BFCHW, self.depth)
        features = self.layers(pixels_BTCHW.flatten(0, 1)).flatten(2).transpose(1, 2)
        if keep_BG is not None:
            return self.linear(kept(features.unflatten(0, pixels_BTCHW.shape[:2]).flatten(1, 2), keep_BG))
        return self.linear(features).unflatten(0, pixels_BTCHW.shape[:2]).flatten(1, 2)


STEMS: dict[str, Callable[..., LinearStem | ConvStem]] = {"linear": LinearStem, "conv": ConvStem}
