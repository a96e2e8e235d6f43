"""Images and clips become patch tokens: one linear map per patch, positions made for the grid at hand.

Shape suffixes: B sequences, T frames, C channels, H W pixels, P patch side, G tokens (frame-major, then row-major),
D width.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def patches(pixels_BTCHW: Tensor, side: int) -> Tensor:
    """Non-overlapping patches, (B, T * rows * columns, C * side * side), frame-major, then row-major."""
    b, t, c, h, w = pixels_BTCHW.shape
    rows, columns = h // side, w // side
    split = pixels_BTCHW.reshape(b, t, c, rows, side, columns, side)
    return split.permute(0, 1, 3, 5, 2, 4, 6).reshape(b, t * rows * columns, c * side * side)


def grid_coordinates(frames: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """(frame, row, column) of every token of a full grid, (G, 3) int64."""
    axes = [torch.arange(length, device=device) for length in (frames, rows, columns)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)


def sincos_2d(row_G: Tensor, column_G: Tensor, width: int) -> Tensor:
    """2-D sin-cos position vectors, (G, D) float32: [sin(row), cos(row), sin(column), cos(column)], D/4 channels each.

    Frequencies are 10000^(-k / (D/4)). Source: the original release (MAE's table with rows first).
    """
    quarter = width // 4
    omega = 10000.0 ** (-torch.arange(quarter, device=row_G.device, dtype=torch.float64) / quarter)
    row_angle = row_G.double()[:, None] * omega
    column_angle = column_G.double()[:, None] * omega
    return torch.cat([row_angle.sin(), row_angle.cos(), column_angle.sin(), column_angle.cos()], dim=-1).float()


class SpatialPositions(nn.Module):
    """Position vectors of patches in a frame, for any grid.

    `sincos`: computed; coordinates are scaled so that every picture spans `reference_grid` steps, whatever its size.
    `table`: a stored grid of vectors, looked up, or interpolated bilinearly when the grid at hand is another.
    """

    def __init__(
        self, width: int, *, kind: Literal["sincos", "table"], reference_grid: float, table_grid: int
    ) -> None:
        super().__init__()
        self.width, self.kind, self.reference_grid = width, kind, reference_grid
        self.table_grid = table_grid
        if kind == "table":
            axis = torch.arange(table_grid) * (reference_grid / table_grid)
            row_G, column_G = (each.reshape(-1) for each in torch.meshgrid(axis, axis, indexing="ij"))
            # Frozen, as the original's: it starts as a sin-cos table and stays one.
            self.table = nn.Parameter(sincos_2d(row_G, column_G, width), requires_grad=False)

    def forward(self, coordinate_G3: Tensor, rows: int, columns: int) -> Tensor:
        """(G, D) vectors of tokens at those (frame, row, column) of a rows x columns grid."""
        row_G, column_G = coordinate_G3[:, 1], coordinate_G3[:, 2]
        if self.kind == "sincos":
            row_scale, column_scale = self.reference_grid / rows, self.reference_grid / columns
            return sincos_2d(row_G * row_scale, column_G * column_scale, self.width)
        grid_DHW = self.table.reshape(self.table_grid, self.table_grid, self.width).permute(2, 0, 1)
        if (rows, columns) != (self.table_grid, self.table_grid):
            grid_DHW = F.interpolate(grid_DHW[None], size=(rows, columns), mode="bilinear", align_corners=False)[0]
        return grid_DHW[:, row_G, column_G].T


class PatchTokenizer(nn.Module):
    """Patch projection + spatial position + temporal position, before the shared LayerNorm."""

    def __init__(self, width: int, *, patch: int, max_frames: int, spatial: SpatialPositions) -> None:
        super().__init__()
        self.patch = patch
        self.project = nn.Linear(3 * patch * patch, width)
        self.spatial = spatial
        self.temporal = nn.Parameter(torch.randn(max_frames, width) * 0.02)

    def forward(self, pixels_BTCHW: Tensor, first_frame: int = 0) -> Tensor:
        """(B, G, D) tokens of clips; an image is a clip of one frame.

        Args:
            first_frame: row of the temporal table that the first frame takes.
        """
        _, frames, _, height, width = pixels_BTCHW.shape
        rows, columns = height // self.patch, width // self.patch
        x_BGD = self.project(patches(pixels_BTCHW, self.patch))
        coordinate_G3 = grid_coordinates(frames, rows, columns, x_BGD.device)
        temporal_TD = self._temporal_rows(frames, first_frame)
        position_GD = self.spatial(coordinate_G3, rows, columns) + temporal_TD[coordinate_G3[:, 0]]
        return x_BGD + position_GD.to(x_BGD.dtype)

    def _temporal_rows(self, frames: int, first_frame: int) -> Tensor:
        """(frames, D): rows of the table from `first_frame`; longer clips than the table are interpolated linearly."""
        if first_frame + frames <= self.temporal.shape[0]:
            return self.temporal[first_frame : first_frame + frames]
        return F.interpolate(self.temporal.T[None], size=frames, mode="linear", align_corners=False)[0].T
