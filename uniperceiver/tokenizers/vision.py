"""Images and clips become patch tokens, with positions made for the grid at hand.

Shape suffixes: B sequences, F frames, C channels, H W pixels, G tokens (by time, then row, then column), D width.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniperceiver.records import Part
from uniperceiver.tokenizers.stems import STEMS


def grid_coordinates(frames: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """(frame, row, column) of every token of a full grid, (G, 3) int64."""
    axes = [torch.arange(length, device=device) for length in (frames, rows, columns)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)


def sincos_1d(place_G: Tensor, width: int) -> Tensor:
    """Sin-cos position vectors, (G, width) float32: [sin, cos], width/2 channels each.

    Frequencies are 10000^(-k / (width / 2)).
    """
    half = width // 2
    exact = torch.float32 if place_G.device.type == "mps" else torch.float64  # MPS has no float64
    omega = 10000.0 ** (-torch.arange(half, device=place_G.device, dtype=exact) / half)
    angle = place_G.to(exact)[:, None] * omega
    return torch.cat([angle.sin(), angle.cos()], dim=-1).float()


def sincos_2d(row_G: Tensor, column_G: Tensor, width: int) -> Tensor:
    """2-D sin-cos position vectors, (G, width) float32: half of the channels for the row, half for the column.

    Source: the original release (MAE's table with rows first).
    """
    return torch.cat([sincos_1d(row_G, width // 2), sincos_1d(column_G, width // 2)], dim=-1)


class SpatialPositions(nn.Module):
    """Position vectors of patches in a frame, for any grid.

    `sincos`: computed; coordinates are scaled so that every picture spans `reference_grid` steps, whatever its size.
    `table`: a stored grid of vectors, looked up, or interpolated bilinearly when the grid at hand is another.
    """

    def __init__(self, width: int, *, kind: str, reference_grid: float, table_grid: int) -> None:
        super().__init__()
        self.width, self.kind, self.reference_grid = width, kind, reference_grid
        self.table_grid = table_grid
        if kind == "table":
            axis = torch.arange(table_grid) * (reference_grid / table_grid)
            row_G, column_G = (coordinate.reshape(-1) for coordinate in torch.meshgrid(axis, axis, indexing="ij"))
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
    """Stem + spatial position + temporal position, before the shared LayerNorm.

    Args:
        stem: how pixels become the content of a token, a key of `STEMS`.
        patch: pixels along a patch's side.
        depth: frames in a patch; with more than one, a single token sees motion (IMP's tubelets).
        max_frames: rows of the temporal position table.
        random_still_row: give still images a random temporal row in training, as the original release does;
            otherwise always row 0.
        frame_offset: start clips at a random temporal row in training.
    """

    def __init__(
        self,
        width: int,
        *,
        patch: int,
        depth: int,
        max_frames: int,
        spatial: SpatialPositions,
        stem: str = "linear",
        random_still_row: bool = False,
        frame_offset: bool = True,
    ) -> None:
        super().__init__()
        self.patch, self.depth = patch, depth
        self.random_still_row, self.frame_offset = random_still_row, frame_offset
        self.project = STEMS[stem](width, patch=patch, depth=depth)
        self.spatial = spatial
        self.temporal = nn.Parameter(torch.empty(max_frames, width).normal_(0.0, 0.02))

    @torch.no_grad()
    def initialise(self, stream: torch.Generator | None) -> None:
        """Temporal positions begin as sines and cosines; nothing is drawn.

        Not N(0, 0.02) as the original: beside patches and spatial positions of size 1 the order of frames would drown,
        and short runs would not learn motion.
        """
        frames, width = self.temporal.shape
        self.temporal.copy_(sincos_1d(torch.arange(frames), width))

    def forward(self, pixels_BFCHW: Tensor, first_frame: int = 0, keep_BG: Tensor | None = None) -> Tensor:
        """(B, G, D) tokens of clips; an image is a clip of one frame.

        Args:
            first_frame: row of the temporal table that the first frame takes.
            keep_BG: int64, the patches that become tokens, with the positions that they have in the whole grid; None:
                all of them.
        """
        _, frames, _, height, width = pixels_BFCHW.shape
        rows, columns = height // self.patch, width // self.patch
        x_BGD = self.project(pixels_BFCHW, keep_BG)
        times = self.times(frames)
        coordinate_G3 = grid_coordinates(times, rows, columns, x_BGD.device)
        temporal_FD = self._temporal_rows(times, first_frame)
        position_GD = self.spatial(coordinate_G3, rows, columns) + temporal_FD[coordinate_G3[:, 0]]
        return x_BGD + (position_GD if keep_BG is None else position_GD[keep_BG]).to(x_BGD.dtype)

    def embed(self, part: Part, stream: torch.Generator | None = None, answer_D: Tensor | None = None) -> Tensor:
        """(B, G, D) tokens of a part; `stream` draws the temporal offset in training."""
        return self(part.values, self.first_frame(part.values.shape[1], stream), part.keep_BG)

    def count(self, shape: Sequence[int]) -> int:
        """How many tokens frames of that shape, (F, C, H, W), become."""
        frames, _, height, width = shape
        return self.times(frames) * (height // self.patch) * (width // self.patch)

    def first_frame(self, frames: int, stream: torch.Generator | None) -> int:
        """The row of the temporal table at which so many frames begin: 0, or drawn in training."""
        is_drawn = self.frame_offset if frames > 1 else self.random_still_row
        room = self.temporal.shape[0] - self.times(frames)
        if stream is None or not is_drawn or room <= 0:
            return 0
        return int(torch.randint(room + 1, (), generator=stream))

    def times(self, frames: int) -> int:
        """Rows of the temporal table that so many frames take."""
        return -(-frames // self.depth)

    def _temporal_rows(self, frames: int, first_frame: int) -> Tensor:
        """(frames, D): rows of the table from `first_frame`; longer clips than the table are interpolated linearly."""
        if first_frame + frames <= self.temporal.shape[0]:
            return self.temporal[first_frame : first_frame + frames]
        return F.interpolate(self.temporal.T[None], size=frames, mode="linear", align_corners=False)[0].T
