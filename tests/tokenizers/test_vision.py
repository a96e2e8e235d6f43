"""Patches and their positions, for any grid and any number of frames.

Shape suffixes: B sequences, T frames, C channels, H W pixels, G tokens, D width.
"""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from tests.shared import GOLDEN, needs_golden
from uniperceiver.streams import torch_stream
from uniperceiver.tokenizers.vision import PatchTokenizer, SpatialPositions, grid_coordinates, sincos_2d

D, SIDE = 16, 4
NUMERICS = GOLDEN / "misc" / "numerics.safetensors"


def pixels(frames: int = 3, height: int = 8, width: int = 12, b: int = 2) -> Tensor:
    return torch.randn(b, frames, 3, height, width, generator=torch_stream(0, frames, height, width))


def spatial(kind: str = "sincos", **fields: float) -> SpatialPositions:
    return SpatialPositions(D, kind=kind, **{"reference_grid": 6.0, "table_grid": 3, **fields})


def tokenizer(kind: str = "sincos", depth: int = 1, max_frames: int = 5) -> PatchTokenizer:
    return PatchTokenizer(D, patch=SIDE, depth=depth, max_frames=max_frames, spatial=spatial(kind))


def full_grid(positions: SpatialPositions, rows: int, columns: int) -> Tensor:
    return positions(grid_coordinates(1, rows, columns, torch.device("cpu")), rows, columns)


def test_coordinates_are_in_the_order_of_the_tokens() -> None:
    expected = [[t, row, column] for t in range(2) for row in range(2) for column in range(3)]
    assert grid_coordinates(2, 2, 3, torch.device("cpu")).tolist() == expected


@needs_golden
@pytest.mark.parametrize(
    ("key", "grid", "scale"),
    [("grid4_scale1", 4, 1.0), ("grid10_scale1", 10, 1.0), ("grid14_scale160_224", 14, 160 / 224)],
)
def test_sincos_positions_are_those_of_the_original(key: str, grid: int, scale: float) -> None:
    expected_GD = load_file(NUMERICS)[f"sincos.{key}"]
    coordinate_G3 = grid_coordinates(1, grid, grid, torch.device("cpu"))
    found_GD = sincos_2d(coordinate_G3[:, 1] * scale, coordinate_G3[:, 2] * scale, expected_GD.shape[1])
    torch.testing.assert_close(found_GD, expected_GD, atol=2e-6, rtol=0)
    positions = SpatialPositions(expected_GD.shape[1], kind="sincos", reference_grid=grid * scale, table_grid=4)
    torch.testing.assert_close(positions(coordinate_G3, grid, grid), expected_GD, atol=2e-6, rtol=0)


@needs_golden
def test_a_table_is_interpolated_like_the_originals() -> None:
    numbers = load_file(NUMERICS)
    before_GD, after_GD = numbers["resize.spatial.before"], numbers["resize.spatial.after"]
    positions = SpatialPositions(before_GD.shape[1], kind="table", reference_grid=4.0, table_grid=4)
    positions.table.data.copy_(before_GD)
    assert torch.equal(full_grid(positions, 4, 4), before_GD)
    torch.testing.assert_close(full_grid(positions, 6, 6), after_GD, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (3, 6), (12, 4)])
def test_every_picture_spans_the_same_range(rows: int, columns: int) -> None:
    """Half of a picture is half of a picture: the place in it counts, not the number of patches."""
    positions = spatial()
    coordinates = torch.tensor([[0, 0, 0], [0, rows // 2, 0], [0, 0, columns // 2]])
    middle = rows // 2 / rows * 6.0, columns // 2 / columns * 6.0
    places = torch.tensor([0.0, middle[0], 0.0]), torch.tensor([0.0, 0.0, middle[1]])
    torch.testing.assert_close(positions(coordinates, rows, columns), sincos_2d(*places, D))
    coarse, fine = full_grid(positions, rows, columns), full_grid(positions, 2 * rows, 3 * columns)
    torch.testing.assert_close(coarse.view(rows, columns, D), fine.view(2 * rows, 3 * columns, D)[::2, ::3])


@pytest.mark.parametrize("kind", ["sincos", "table"])
def test_any_subset_of_tokens_has_the_positions_of_its_places(kind: str) -> None:
    positions, coordinates = spatial(kind), grid_coordinates(2, 4, 5, torch.device("cpu"))
    chosen = torch.tensor([33, 2, 7, 2, 39])
    whole = positions(coordinates, 4, 5)
    torch.testing.assert_close(positions(coordinates[chosen], 4, 5), whole[chosen])
    assert len(whole[:20].unique(dim=0)) == 20


def test_rows_come_first_and_columns_second() -> None:
    one, two = (
        sincos_2d(torch.tensor([1.0]), torch.tensor([0.0]), D),
        sincos_2d(torch.tensor([0.0]), torch.tensor([1.0]), D),
    )
    assert torch.equal(one[:, : D // 2], two[:, D // 2 :])
    assert torch.equal(one[:, D // 2 :], two[:, : D // 2])
    assert not torch.equal(one, two)


def test_a_table_starts_as_sincos_and_is_not_learned() -> None:
    positions = spatial("table")
    assert not positions.table.requires_grad
    torch.testing.assert_close(full_grid(positions, 3, 3), full_grid(spatial("sincos"), 3, 3))


@pytest.mark.parametrize("first", [0, 2])
def test_a_token_is_projection_and_positions_in_space_and_time(first: int) -> None:
    one, clip = tokenizer(), pixels()
    found_BGD = one(clip, first).view(2, 3, 6, D)
    content_BGD = one.project(clip).view(2, 3, 6, D)
    position_GD = full_grid(one.spatial, 2, 3)
    for t in range(3):
        torch.testing.assert_close(found_BGD[:, t], content_BGD[:, t] + position_GD + one.temporal[first + t])


def test_clips_longer_than_the_table_span_it() -> None:
    one = tokenizer(max_frames=3)
    zero = one(torch.zeros(1, 7, 3, 4, 4))[0] - one.project.bias - full_grid(one.spatial, 1, 1)
    expected = F.interpolate(one.temporal.T[None], size=7, mode="linear", align_corners=False)[0].T
    torch.testing.assert_close(zero, expected)
    # Half-pixel centres: the ends stay, the middle frame has the middle row.
    torch.testing.assert_close(zero[[0, 3, 6]], one.temporal[[0, 1, 2]])
    one(torch.zeros(1, 7, 3, 4, 4)).sum().backward()
    assert one.temporal.grad.any()


def test_patches_of_two_frames_take_one_row_of_the_table() -> None:
    one = tokenizer(depth=2, max_frames=2)
    assert [one.times(frames) for frames in (1, 2, 3, 4)] == [1, 1, 2, 2]
    assert one(pixels(frames=3)).shape == (2, 2 * 6, D)
    still = one(torch.zeros(1, 1, 3, 4, 4))[0, 0] - one.project.bias - full_grid(one.spatial, 1, 1)[0]
    torch.testing.assert_close(still, one.temporal[0])


@pytest.mark.parametrize(
    ("depth", "frames", "rows"),
    [(1, 4, {0, 1}), (2, 4, {0, 1, 2, 3}), (2, 7, {0, 1}), (2, 9, {0}), (3, 3, set(range(5)))],
)
def test_a_clip_begins_at_any_row_from_which_the_table_holds_it(depth: int, frames: int, rows: set[int]) -> None:
    one = tokenizer(depth=depth, max_frames=5)
    assert {one.first_frame(frames, torch_stream(seed)) for seed in range(60)} == rows
    assert one.first_frame(frames, None) == 0
