"""Where things are: the grids of maps in a picture, positions of their cells, and vectors of boxes.

Shape suffixes: S cells of all maps (finest map first, row by row), M boxes, D width.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from uniperceiver.precision import at_least_float32
from uniperceiver.tokenizers.vision import sincos_2d

_SPAN = 16.0  # steps of the position code from side to side of a picture, whatever its size
_ANCHOR = 2.0  # cells along a side of the box that refinement begins with
_BASE = 10000.0  # of the wavelengths of the vectors of boxes


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The cells of a map, and how large they are in the picture.

    Where the picture's side is no multiple of a cell's, the last row or column reaches over its border.
    """

    rows: int
    columns: int
    height: float  # of a cell, as a share of the picture's height
    width: float  # of a cell, as a share of the picture's width

    @property
    def span(self) -> tuple[float, float]:
        """Width and height of the map, as shares of the picture's: 1, or more where it reaches over its border."""
        return self.columns * self.width, self.rows * self.height

    @property
    def cells(self) -> int:
        """How many cells the map has."""
        return self.rows * self.columns


def centres(grid: Grid, device: torch.device) -> Tensor:
    """(S, 2) float32: x and y of the centres of a map's cells, as shares of the picture."""
    y = (torch.arange(grid.rows, device=device, dtype=torch.float32) + 0.5) * grid.height
    x = (torch.arange(grid.columns, device=device, dtype=torch.float32) + 0.5) * grid.width
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).reshape(-1, 2)


def anchors(grids: Iterable[Grid], device: torch.device) -> Tensor:
    """(S, 4) float32: the box that each cell begins with, its centre and twice its side (cx cy w h in shares)."""
    boxes = []
    for grid in grids:
        centre_S2 = centres(grid, device)
        size_2 = torch.tensor([_ANCHOR * grid.width, _ANCHOR * grid.height], device=device)
        boxes.append(torch.cat([centre_S2, size_2.expand(len(centre_S2), 2)], dim=1))
    return torch.cat(boxes)


def positions(grid: Grid, width: int, device: torch.device) -> Tensor:
    """(S, D) float32: sines and cosines of where the cells are in the picture, rows first."""
    centre_S2 = centres(grid, device) * _SPAN
    return sincos_2d(centre_S2[:, 1], centre_S2[:, 0], width)


def box_vectors(box_M4: Tensor, width: int) -> Tensor:
    """(..., D) float32: sines and cosines of 2 pi (cx, cy, w, h) / 10000^(k / (D/8)), D/8 frequencies of each.

    Source: DETR and its relatives.
    """
    frequencies = width // 8
    box_M4 = at_least_float32(box_M4)
    exponent = torch.arange(frequencies, device=box_M4.device, dtype=box_M4.dtype) / frequencies
    angle = (box_M4[..., None] * (2 * math.pi * _BASE**-exponent)).flatten(-2)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
