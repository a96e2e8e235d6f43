"""Boxes as tensors: two ways to write them, how far they overlap, and the inverse of the sigmoid.

A box is written as corners (x0, y0, x1, y1) or as centre and size (cx, cy, w, h), in any unit, along the last
dimension. Shape suffixes: M N boxes.
"""

import torch
from torch import Tensor

_LEAST_SHARE = 1e-3  # shares nearer to 0 or 1 have the logit of this one: a steeper one has hardly a gradient


def corners_of(box_M4: Tensor) -> Tensor:
    """(cx, cy, w, h) as (x0, y0, x1, y1)."""
    centre_M2, size_M2 = box_M4[..., :2], box_M4[..., 2:]
    return torch.cat([centre_M2 - size_M2 / 2, centre_M2 + size_M2 / 2], dim=-1)


def centres_of(corner_M4: Tensor) -> Tensor:
    """(x0, y0, x1, y1) as (cx, cy, w, h)."""
    first_M2, last_M2 = corner_M4[..., :2], corner_M4[..., 2:]
    return torch.cat([(first_M2 + last_M2) / 2, last_M2 - first_M2], dim=-1)


def areas(corner_M4: Tensor) -> Tensor:
    """Areas of boxes with corners; 0 where a corner lies behind its opposite."""
    return (corner_M4[..., 2:] - corner_M4[..., :2]).clamp(min=0).prod(dim=-1)


def overlaps(first_M4: Tensor, second_M4: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union of boxes with corners, whose leading dimensions are broadcast against each other."""
    low = torch.maximum(first_M4[..., :2], second_M4[..., :2])
    high = torch.minimum(first_M4[..., 2:], second_M4[..., 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)
    return shared, areas(first_M4) + areas(second_M4) - shared


def iou(first_M4: Tensor, second_M4: Tensor) -> Tensor:
    """Intersection over union of boxes with corners, 0 to 1; broadcast, and 0 for two boxes without area."""
    shared, union = overlaps(first_M4, second_M4)
    return shared / union.clamp(min=torch.finfo(union.dtype).tiny)


def giou(first_M4: Tensor, second_M4: Tensor) -> Tensor:
    """Generalised IoU of boxes with corners, -1 to 1, broadcast (Rezatofighi et al., 2019, Eq. 1 and 2).

    IoU minus the share of the smallest box around both that neither covers; finite for boxes without area.
    """
    shared, union = overlaps(first_M4, second_M4)
    tiny = torch.finfo(union.dtype).tiny
    low = torch.minimum(first_M4[..., :2], second_M4[..., :2])
    high = torch.maximum(first_M4[..., 2:], second_M4[..., 2:])
    around = (high - low).clamp(min=0).prod(dim=-1)
    return shared / union.clamp(min=tiny) - (around - union) / around.clamp(min=tiny)


def logit(share_M: Tensor) -> Tensor:
    """The inverse of the sigmoid, of shares held at least 0.001 away from 0 and 1."""
    share_M = share_M.clamp(_LEAST_SHARE, 1 - _LEAST_SHARE)
    return (share_M / (1 - share_M)).log()
