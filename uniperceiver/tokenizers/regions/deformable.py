"""Deformable attention: a query looks at a few points around its box in every map, wherever it likes.

Sum over heads, maps and points of A V_l[r_xy + offset / P * r_wh / 2], with bilinear interpolation and zeros outside;
A is a softmax over maps and points, A and the offsets are linear in the query.
Source: Zhu et al., "Deformable DETR" (arXiv 2010.04159), with boxes as references.

Shape suffixes: B pictures, Q queries, S cells of all maps, h heads, d width of a head, L maps, P points, D width.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniperceiver.precision import at_least_float32
from uniperceiver.tokenizers.regions.blocks import ExactLinear
from uniperceiver.tokenizers.regions.places import Grid


class DeformableAttention(nn.Module):
    """Queries with a box each look at points of several maps.

    Args:
        levels: how many maps there are.
        points: how many points a head looks at in a map.
    """

    def __init__(self, width: int, heads: int, *, levels: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.offset = ExactLinear(width, heads * levels * points * 2)
        self.share = ExactLinear(width, heads * levels * points)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    @torch.no_grad()
    def initialise(self) -> None:
        """All queries begin alike: heads look in directions of a ring, points ever further, up to the box's border."""
        for linear in (self.offset, self.share):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        ring_hLP2 = self.offset.bias.view(self.heads, self.levels, self.points, 2)
        for head in range(self.heads):
            angle = 2 * math.pi * head / self.heads
            x, y = math.cos(angle), math.sin(angle)
            far = max(abs(x), abs(y))  # a square: the corners of a box are as far as its sides
            for point in range(self.points):
                ring_hLP2[head, :, point, 0] = x / far * (point + 1)
                ring_hLP2[head, :, point, 1] = y / far * (point + 1)

    def forward(self, query_BQD: Tensor, reference_BQ4: Tensor, cell_BSD: Tensor, grids: Sequence[Grid]) -> Tensor:
        """(B, Q, D).

        Args:
            reference_BQ4: cx cy w h as shares of the picture, float32.
            cell_BSD: the cells of all maps, one map after the other.
        """
        shape = (*query_BQD.shape[:2], self.heads, self.levels, self.points)
        offset_BQhLP2 = self.offset(query_BQD).view(*shape, 2)
        share_BQhLP = self.share(query_BQD).view(*shape[:3], -1).softmax(dim=-1).view(shape)
        centre, size = reference_BQ4[:, :, None, None, None, :2], reference_BQ4[:, :, None, None, None, 2:]
        span_L12 = offset_BQhLP2.new_tensor([grid.span for grid in grids])[:, None]
        location_BQhLP2 = (centre + offset_BQhLP2 * size * (0.5 / self.points)) / span_L12
        looked_BQD = look(self._maps(cell_BSD, grids), location_BQhLP2, share_BQhLP)
        projected: Tensor = self.out(looked_BQD.to(query_BQD.dtype))
        return projected

    def _maps(self, cell_BSD: Tensor, grids: Sequence[Grid]) -> list[Tensor]:
        """What is looked at, (B * h, d, rows, columns) of each map, float32."""
        value_BhdS = at_least_float32(self.value(cell_BSD)).transpose(1, 2).unflatten(1, (self.heads, -1)).flatten(0, 1)
        parts = value_BhdS.split([grid.cells for grid in grids], dim=2)
        return [part.unflatten(2, (grid.rows, grid.columns)) for part, grid in zip(parts, grids, strict=True)]


def look(maps: Sequence[Tensor], location_BQhLP2: Tensor, share_BQhLP: Tensor) -> Tensor:
    """(B, Q, h * d): what heads see at points of the maps, weighted and added up.

    Args:
        maps: (B * h, d, rows, columns) each.
        location_BQhLP2: x and y as shares of the map; outside of 0 to 1 there are zeros.
    """
    heads = location_BQhLP2.shape[2]
    place_LBQP2 = (2 * location_BQhLP2 - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)
    share_BQLP = share_BQhLP.transpose(1, 2).flatten(0, 1).flatten(2)[:, None]
    points_BdQP = [
        F.grid_sample(map_BdHW, place_BQP2, mode="bilinear", padding_mode="zeros", align_corners=False)
        for map_BdHW, place_BQP2 in zip(maps, place_LBQP2, strict=True)
    ]
    seen_BdQ = (torch.cat(points_BdQP, dim=3) * share_BQLP).sum(dim=3)
    return seen_BdQ.unflatten(0, (-1, heads)).permute(0, 3, 1, 2).flatten(2)


def look_plainly(maps: Sequence[Tensor], location_BQhLP2: Tensor, share_BQhLP: Tensor) -> Tensor:
    """The same as `look`, written out in loops with bilinear interpolation by hand: what it is tested against."""
    pictures, queries, heads, _, points, _ = location_BQhLP2.shape
    rows = []
    for picture in range(pictures):
        for query in range(queries):
            for head in range(heads):
                total_d = torch.zeros_like(maps[0][0, :, 0, 0])
                for level, map_BdHW in enumerate(maps):
                    for point in range(points):
                        x, y = location_BQhLP2[picture, query, head, level, point]
                        value_d = _bilinear(map_BdHW[picture * heads + head], x, y)
                        total_d = total_d + share_BQhLP[picture, query, head, level, point] * value_d
                rows.append(total_d)
    return torch.stack(rows).view(pictures, queries, -1)


def _bilinear(map_dHW: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The value at a place between the centres of four pixels; those outside are 0."""
    _, height, width = map_dHW.shape
    column, row = x * width - 0.5, y * height - 0.5  # the centre of the first pixel lies at half a pixel
    left, top = int(column.floor()), int(row.floor())
    value_d = torch.zeros_like(map_dHW[:, 0, 0])
    for i in (top, top + 1):
        for j in (left, left + 1):
            if 0 <= i < height and 0 <= j < width:
                value_d = value_d + map_dHW[:, i, j] * (1 - (row - i).abs()) * (1 - (column - j).abs())
    return value_d
