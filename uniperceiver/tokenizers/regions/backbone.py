"""PIXELS -> MAPS: convolutions, blocks of attention over their cells, and a pyramid of ever coarser maps.

Source: ViTDet's simple pyramid (arXiv 2203.16527), downwards only.

Shape suffixes: B pictures, C channels, H W pixels or cells, S cells of all maps, D width.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniperceiver.tokenizers.regions.blocks import RegionBlock
from uniperceiver.tokenizers.regions.places import Grid, positions
from uniperceiver.tokenizers.regions.shape import RegionShape
from uniperceiver.tokenizers.stems import ConvStem


@dataclass(frozen=True, kw_only=True)
class Maps:
    """What a backbone makes of pictures."""

    cell_BSD: Tensor  # the cells of all maps, finest map first, row by row
    grids: tuple[Grid, ...]
    fine_BCHW: Tensor | None = None  # an early map that masks are drawn on

    def level(self, number: int) -> Tensor:
        """(B, D, H, W): the map of that level; -1 is the coarsest."""
        parts = self.cell_BSD.split([grid.cells for grid in self.grids], dim=1)
        grid = self.grids[number]
        return parts[number].transpose(1, 2).unflatten(2, (grid.rows, grid.columns))


class PlainBackbone(nn.Module):
    """A small backbone that learns from few pictures without weights from elsewhere."""

    def __init__(self, width: int, heads: int, patch: int, shape: RegionShape) -> None:
        super().__init__()
        if shape.masks and patch < shape.mask_stride:
            raise ValueError(
                f"mask_stride: patches of {patch} pixels have no map of stride {shape.mask_stride}; take larger patches"
            )
        self.patch = patch
        self.fine_stage = shape.mask_stride.bit_length() - 2 if shape.masks else None  # stride 2: stage 0
        self.stem = ConvStem(width, patch=patch, depth=1)
        self.fine_channels = 0 if self.fine_stage is None else self.stem.channels[self.fine_stage]
        self.blocks = nn.ModuleList(RegionBlock(width, heads) for _ in range(shape.backbone_layers))
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.down = nn.ModuleList(nn.Conv2d(width, width, 2, stride=2) for _ in range(shape.levels - 1))

    @torch.no_grad()
    def initialise(self, stream: torch.Generator | None) -> None:
        """Biases of convolutions are 0, as those of linear maps; nothing is drawn."""
        for layer in self.down:
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, pixels_BCHW: Tensor) -> Maps:
        """Maps of pictures of any size."""
        stages = self.stem.stages(pixels_BCHW)
        height, width = pixels_BCHW.shape[2:]
        grids = [grid_of(stages[-1], self.patch, height, width)]
        x_BSD = self.stem.linear(stages[-1].flatten(2).transpose(1, 2))
        x_BSD = x_BSD + positions(grids[0], x_BSD.shape[2], x_BSD.device).to(x_BSD.dtype)
        for block in self.blocks:
            x_BSD = block(x_BSD)
        map_BDHW = self.norm(x_BSD).transpose(1, 2).unflatten(2, (grids[0].rows, grids[0].columns))
        maps = [map_BDHW]
        coarser(maps, grids, self.down)
        fine_BCHW = None if self.fine_stage is None else stages[self.fine_stage]
        return Maps(cell_BSD=joined(maps), grids=tuple(grids), fine_BCHW=fine_BCHW)


def coarser(maps: list[Tensor], grids: list[Grid], down: nn.ModuleList) -> None:
    """Append a map of half the side for each convolution, made of the map before.

    Zeros below and at the right make its rows and columns even, so that nothing is left out.
    """
    for convolution in down:
        rows, columns = maps[-1].shape[2:]
        maps.append(convolution(F.pad(maps[-1], (0, columns % 2, 0, rows % 2))))
        rows, columns = maps[-1].shape[2:]
        grids.append(Grid(rows=rows, columns=columns, height=2 * grids[-1].height, width=2 * grids[-1].width))


def joined(maps: Iterable[Tensor]) -> Tensor:
    """(B, S, D): the cells of all maps, map after map, row by row."""
    return torch.cat([map_BDHW.flatten(2).transpose(1, 2) for map_BDHW in maps], dim=1)


def grid_of(map_BDHW: Tensor, stride: int, height: int, width: int) -> Grid:
    """The grid of a map with so many pixels to a cell, of a picture of that size."""
    rows, columns = map_BDHW.shape[2:]
    return Grid(rows=rows, columns=columns, height=stride / height, width=stride / width)
