"""Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019) of a batch with soft targets.

Shape suffixes: B samples, T frames, C colours, H W pixels, K candidates.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Mixed(NamedTuple):
    """A batch of which every sample holds a part of another one."""

    pixels_BFCHW: Tensor
    soft_BK: Tensor


def mix(
    pixels_BFCHW: Tensor, soft_BK: Tensor, mixup_alpha: float, cutmix_alpha: float, rng: np.random.Generator
) -> Mixed:
    """Blend each sample with a random partner, by mixup or CutMix (one of the two per batch if both are on).

    The share lambda of a batch is drawn from Beta(alpha, alpha); with CutMix it is corrected to the area that is
    really kept, since the box is clipped at the edges. All frames of a clip get the same box. An alpha of 0 is off.
    """
    if mixup_alpha <= 0 and cutmix_alpha <= 0:
        return Mixed(pixels_BFCHW, soft_BK)
    partner_B = torch.from_numpy(rng.permutation(len(pixels_BFCHW))).to(pixels_BFCHW.device)
    cut = cutmix_alpha > 0 and (mixup_alpha <= 0 or rng.random() < 0.5)
    alpha = cutmix_alpha if cut else mixup_alpha
    kept = float(rng.beta(alpha, alpha))
    others_BFCHW = pixels_BFCHW[partner_B]
    if cut:
        top, bottom, left, right = _box(pixels_BFCHW.shape[-2], pixels_BFCHW.shape[-1], kept, rng)
        mixed_BFCHW = pixels_BFCHW.clone()
        mixed_BFCHW[..., top:bottom, left:right] = others_BFCHW[..., top:bottom, left:right]
        kept = 1 - (bottom - top) * (right - left) / (pixels_BFCHW.shape[-2] * pixels_BFCHW.shape[-1])
    else:
        mixed_BFCHW = pixels_BFCHW * kept + others_BFCHW * (1 - kept)
    return Mixed(mixed_BFCHW, soft_BK * kept + soft_BK[partner_B] * (1 - kept))


def _box(height: int, width: int, kept: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A box of share 1 - kept around a random centre, clipped to the picture: top, bottom, left, right."""
    side = float(np.sqrt(1 - kept))
    centre_y, centre_x = int(rng.integers(height)), int(rng.integers(width))
    half_y, half_x = int(height * side) // 2, int(width * side) // 2
    return (
        max(0, centre_y - half_y),
        min(height, centre_y + half_y),
        max(0, centre_x - half_x),
        min(width, centre_x + half_x),
    )
