"""Sounds become patch tokens: spectrograms and waveforms alike are grids, cut into patches.

Shape suffixes: B sequences, F rows of the grid (by time), M columns, G tokens (by time, then column), P values of a
patch, D width.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from uniperceiver.records import Part
from uniperceiver.streams import torch_stream
from uniperceiver.tokenizers.vision import sincos_2d

_STEP = 512.0  # milliseconds that are 1 in positions: the patch of 16 frames at 32 ms, whatever the patches at hand


class SoundTokenizer(nn.Module):
    """A linear map of each patch + its place in time and in the row, before the shared LayerNorm.

    Times are absolute, so a second is as long in every sound: a model may hear longer sounds than it was trained on.

    Args:
        patch: rows and columns of a patch.
    """

    draws_alone = True  # its weights come from a stream of their own, so that all others are as without it

    def __init__(self, width: int, *, patch: tuple[int, int]) -> None:
        super().__init__()
        self.patch = patch
        self.project = nn.Linear(math.prod(patch), width)

    @torch.no_grad()
    def initialise(self, stream: torch.Generator | None) -> None:
        """Xavier-uniform as all linears; nothing is drawn from `stream` itself."""
        own = None if stream is None else torch_stream(stream.initial_seed(), "sound")
        bound = math.sqrt(6.0 / sum(self.project.weight.shape))
        self.project.weight.uniform_(-bound, bound, generator=own)
        self.project.bias.zero_()

    def forward(self, grid_BFM: Tensor, step: float, keep_BG: Tensor | None = None) -> Tensor:
        """(B, G, D) tokens of sounds.

        Args:
            step: milliseconds from row to row.
            keep_BG: which patches are tokens; None: all.
        """
        rows, columns = (length // side for length, side in zip(grid_BFM.shape[1:], self.patch, strict=True))
        patch_BGP = (
            grid_BFM.unflatten(1, (rows, self.patch[0]))
            .unflatten(3, (columns, self.patch[1]))
            .transpose(2, 3)
            .flatten(3)
        ).flatten(1, 2)
        place_G = torch.arange(rows * columns, device=grid_BFM.device)
        time_G = (place_G // columns + 0.5) * (self.patch[0] * step / _STEP)
        position_BGD = sincos_2d(time_G, place_G % columns, self.project.out_features)[None]
        if keep_BG is not None:
            patch_BGP = patch_BGP.gather(1, keep_BG[..., None].expand(-1, -1, patch_BGP.shape[2]))
            position_BGD = position_BGD[0][keep_BG]
        x_BGD: Tensor = self.project(patch_BGP)
        return x_BGD + position_BGD.to(x_BGD.dtype)

    def count(self, shape: Sequence[int]) -> int:
        """How many tokens a grid of that shape, (F, M), becomes."""
        return math.prod(length // side for length, side in zip(shape, self.patch, strict=True))

    def embed(self, part: Part, stream: torch.Generator | None = None, answer_D: Tensor | None = None) -> Tensor:
        """(B, G, D) tokens of a part; nothing is drawn."""
        return self(part.values, part.step, part.keep_BG)
