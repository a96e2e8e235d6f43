"""Dense attention: a query looks at every cell of every map, which deformable attention is compared with.

With `relative`, the score of a cell also depends on where it lies beside the query's box:

    bias = MLP_x(f(x0 - c_x), f(x1 - c_x)) + MLP_y(f(y0 - c_y), f(y1 - c_y)),  f(d) = sign(d) log2(1 + |d|) / 3

d in cells of the map. Source: Plain-DETR's BoxRPB (arXiv 2308.01904, section 3.2), here over several maps.

Shape suffixes: B pictures, Q queries, S cells of all maps, h heads, X or Y columns or rows of a map, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from uniperceiver.boxes import corners_of
from uniperceiver.tokenizers.regions.blocks import ExactLinear, PlainAttention
from uniperceiver.tokenizers.regions.places import Grid, positions

_LOG = 3.0  # log2 of 8 cells, whose distance counts 1 or so


class DenseAttention(nn.Module):
    """Queries with a box each look at all cells of several maps, by content and position.

    Args:
        relative: whether scores have a bias by where a cell lies beside the query's box.
    """

    def __init__(self, width: int, heads: int, *, relative: bool) -> None:
        super().__init__()
        self.attention = PlainAttention(width, heads)
        self.across, self.along = (side_bias(width, heads) if relative else None for _ in range(2))

    def initialise(self) -> None:
        """Nothing begins otherwise than linear maps do."""

    def forward(self, query_BQD: Tensor, reference_BQ4: Tensor, cell_BSD: Tensor, grids: Sequence[Grid]) -> Tensor:
        """(B, Q, D).

        Args:
            reference_BQ4: cx cy w h as shares of the picture, float32.
            cell_BSD: the cells of all maps, one map after the other.
        """
        place_SD = torch.cat([positions(grid, cell_BSD.shape[2], cell_BSD.device) for grid in grids])
        bias_BhQS = None
        if self.across is not None and self.along is not None:
            bias_BhQS = box_bias(reference_BQ4, grids, self.across, self.along).to(cell_BSD.dtype)
        looked_BQD: Tensor = self.attention(query_BQD, cell_BSD + place_SD.to(cell_BSD.dtype), cell_BSD, bias_BhQS)
        return looked_BQD


def side_bias(width: int, heads: int) -> nn.Sequential:
    """From the distances of a box's two sides to a bias of every head; no constant, which a softmax would not see."""
    return nn.Sequential(ExactLinear(2, width), nn.ReLU(), ExactLinear(width, heads, bias=False))


def box_bias(reference_BQ4: Tensor, grids: Sequence[Grid], across: nn.Module, along: nn.Module) -> Tensor:
    """(B, h, Q, S): what is added to the score of every cell for every query."""
    corner_BQ4 = corners_of(reference_BQ4)
    parts = []
    for grid in grids:
        bias_BQXh = across(_distances(corner_BQ4[..., 0::2] / grid.width, grid.columns))
        bias_BQYh = along(_distances(corner_BQ4[..., 1::2] / grid.height, grid.rows))
        parts.append((bias_BQYh[:, :, :, None] + bias_BQXh[:, :, None]).flatten(2, 3))
    return torch.cat(parts, dim=2).permute(0, 3, 1, 2)


def _distances(side_BQ2: Tensor, cells: int) -> Tensor:
    """(B, Q, cells, 2): how far a box's sides, in cells, are from the centres of cells in a row, on a log scale."""
    centre_X1 = torch.arange(cells, device=side_BQ2.device, dtype=side_BQ2.dtype)[:, None] + 0.5
    distance_BQX2 = side_BQ2[:, :, None] - centre_X1
    return distance_BQX2.sign() * torch.log2(distance_BQX2.abs() + 1) / _LOG
