"""MAPS -> MAPS: every cell looks at points of all maps around itself, layer by layer.

Source: the encoder of Deformable DETR (arXiv 2010.04159) and Mask DINO, with norms in front, as everywhere here.

Shape suffixes: S cells of all maps, D width.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from uniperceiver.tokenizers.regions.backbone import Maps
from uniperceiver.tokenizers.regions.deformable import DeformableAttention
from uniperceiver.tokenizers.regions.places import anchors, positions

_FFN = 4  # how much wider the inside of an FFN is


class EncoderLayer(nn.Module):
    """x + Deform(LN x + position; the cell's anchor), then x + FFN(LN x)."""

    def __init__(self, width: int, heads: int, *, levels: int, points: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-5), nn.LayerNorm(width, eps=1e-5)
        self.look = DeformableAttention(width, heads, levels=levels, points=points)
        self.ffn = nn.Sequential(nn.Linear(width, _FFN * width), nn.GELU(), nn.Linear(_FFN * width, width))

    def forward(self, maps: Maps, position_SD: Tensor, anchor_S4: Tensor) -> Tensor:
        """(B, S, D): the cells, which know more of each other."""
        normed_BSD = self.norm1(maps.cell_BSD)
        reference_BS4 = anchor_S4.expand(normed_BSD.shape[0], -1, -1)
        cell_BSD = maps.cell_BSD + self.look(normed_BSD + position_SD, reference_BS4, normed_BSD, maps.grids)
        encoded_BSD: Tensor = cell_BSD + self.ffn(self.norm2(cell_BSD))
        return encoded_BSD


class MapEncoder(nn.Module):
    """Layers between a backbone and the decoder of proposals.

    Args:
        levels: how many maps there are.
        points: how many points a head looks at in a map.
    """

    def __init__(self, width: int, heads: int, layers: int, *, levels: int, points: int) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.empty(levels, width).normal_(0.0, 0.02))
        self.layers = nn.ModuleList(EncoderLayer(width, heads, levels=levels, points=points) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=1e-5)

    @torch.no_grad()
    def initialise(self, stream: torch.Generator | None) -> None:
        """Draw the vectors of the levels, and set what begins otherwise than linear maps."""
        self.level.normal_(0.0, 0.02, generator=stream)
        for layer in self.layers:
            assert isinstance(layer, EncoderLayer)
            layer.look.initialise()

    def forward(self, maps: Maps) -> Maps:
        """The maps with other cells; the early map that masks are drawn on stays as it is."""
        width, device = maps.cell_BSD.shape[2], maps.cell_BSD.device
        places = [
            positions(grid, width, device) + level_D for grid, level_D in zip(maps.grids, self.level, strict=True)
        ]
        position_SD, anchor_S4 = torch.cat(places).to(maps.cell_BSD.dtype), anchors(maps.grids, device)
        for layer in self.layers:
            maps = replace(maps, cell_BSD=layer(maps, position_SD, anchor_S4))
        return replace(maps, cell_BSD=self.norm(maps.cell_BSD))
