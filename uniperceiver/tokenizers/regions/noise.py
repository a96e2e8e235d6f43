"""THINGS -> NOISED QUERIES: boxes that are a little off, from which the decoder learns to find the true ones.

Of every thing there are pairs, a query whose box is near and one whose box is farther off: the first shall find the
thing, the second say that it is none. They are there in training only, and no proposal sees them.
Source: DINO (arXiv 2203.03605, section 3.3), without its labels, as proposals have no classes.

Shape suffixes: B pictures, G things of a picture, M noised queries, Q queries.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from uniperceiver.boxes import centres_of, corners_of
from uniperceiver.records.regions import Objects


@dataclass(frozen=True, kw_only=True)
class Noised:
    """Noised boxes, group after group; a group has a pair for every thing of the picture."""

    box_BM4: Tensor  # float32, cx cy w h as shares of the picture
    thing_BM: Tensor  # int64, which of the picture's things shall be found; -1: none
    real_BM: Tensor  # bool; False: padding
    groups: int

    def visible(self, queries: int) -> Tensor:
        """What attention may look at, (B, 1, M, M + Q) bool: those of the same group, then all proposals."""
        pictures, noised = self.thing_BM.shape
        group_M = torch.arange(noised, device=self.thing_BM.device) // (noised // self.groups)
        own_BMM = (group_M[:, None] == group_M) & self.real_BM[:, None]
        all_BMQ = own_BMM.new_ones(pictures, noised, queries)
        return torch.cat([own_BMM, all_BMQ], dim=2)[:, None]


def noised(
    objects: Objects, most: int, stream: torch.Generator, place_B: Tensor | None = None, planned: int = 0
) -> Noised:
    """As many groups of noised boxes as fit; of pictures with more things than half of `most`, the first ones.

    Every side of a box moves by a share of half the box's width or height, below 1/2 for those that are near, else
    above.

    Args:
        most: noised queries of a picture.
        stream: draws for the planned batch, so that the others keep their noise where samples were left out.
        place_B: places in the planned batch; None: nothing was left out.
        planned: the size of the planned batch, with place_B.
    """
    pictures, device = len(objects.known_BG), objects.box_BG4.device
    pairs = max(most // 2, 1)
    things = min(objects.known_BG.shape[1], pairs)
    groups = pairs // things
    drawn = 2 * torch.rand(planned or pictures, pairs, 2, 4, generator=stream) - 1
    drawn = drawn if place_B is None else drawn[place_B.cpu()]
    drawn = drawn[:, : groups * things].to(device)
    shift = drawn.sign() * (drawn.abs() + torch.tensor([0.0, 1.0], device=device)[:, None]) / 2
    box_BM4 = objects.box_BG4[:, :things].repeat(1, groups, 1)[:, :, None].expand(-1, -1, 2, -1).flatten(1, 2)
    half_BM4 = box_BM4[..., 2:].repeat(1, 1, 2) / 2
    corner_BM4 = (corners_of(box_BM4) + shift.flatten(1, 2) * half_BM4).clamp(0.0, 1.0)
    thing_GP = torch.stack([torch.arange(things), torch.full((things,), -1)], dim=1).to(device)
    real_BG = objects.single_BG[:, :things]
    return Noised(
        box_BM4=centres_of(corner_BM4),
        thing_BM=thing_GP.flatten().repeat(pictures, groups),
        real_BM=real_BG.repeat_interleave(2, dim=1).repeat(1, groups),
        groups=groups,
    )
