"""Sounds become patch tokens, whose places in time are absolute.

Shape suffixes: B sounds, F rows, M columns, G tokens, D width.
"""

import math

import pytest
import torch
from torch import Tensor

from uniperceiver.records import Part
from uniperceiver.streams import torch_stream
from uniperceiver.tokenizers.sound import SoundTokenizer

WIDTH, ROWS, COLUMNS, STEP = 16, 12, 9, 32.0


def tokenizer(patch: tuple[int, int] = (4, 3)) -> SoundTokenizer:
    made = SoundTokenizer(WIDTH, patch=patch)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(generator=torch_stream(1))
    return made


def grid(rows: int = ROWS, columns: int = COLUMNS) -> Tensor:
    return torch.randn(2, rows, columns, generator=torch_stream(2))


def place(value: float, width: int) -> list[float]:
    """Sines, then cosines, of one coordinate, written out."""
    angles = [value * 10000 ** (-k / (width / 2)) for k in range(width // 2)]
    return [*map(math.sin, angles), *map(math.cos, angles)]


def test_each_patch_goes_through_the_map_and_gets_its_place() -> None:
    made, grid_BFM = tokenizer(), grid()
    x_BGD = made(grid_BFM, STEP)
    assert x_BGD.shape == (2, 3 * 3, WIDTH)
    for number in range(9):
        row, column = divmod(number, 3)
        patch_BP = grid_BFM[:, 4 * row : 4 * row + 4, 3 * column : 3 * column + 3].flatten(1)
        seconds_of_512 = (row + 0.5) * 4 * STEP / 512
        position_D = torch.tensor(place(seconds_of_512, WIDTH // 2) + place(column, WIDTH // 2))
        torch.testing.assert_close(x_BGD[:, number], made.project(patch_BP) + position_D)


def test_a_second_is_as_long_in_every_sound() -> None:
    """Longer sounds, and frames that lie closer with as many more of them in a patch."""
    made = tokenizer()
    made.project.weight.data.zero_()
    short, long = made(grid(), STEP), made(grid(2 * ROWS), STEP)
    torch.testing.assert_close(long[:, : short.shape[1]], short)
    dense = SoundTokenizer(WIDTH, patch=(8, 3))
    dense.project.weight.data.zero_()
    dense.project.bias.data = made.project.bias.data
    torch.testing.assert_close(dense(grid(2 * ROWS), STEP / 2), short)


def test_a_waveform_is_a_grid_of_rows() -> None:
    made = tokenizer((1, 8))
    x_BGD = made(grid(6, 8), 16.0)
    position_GD = torch.tensor([place((row + 0.5) * 16 / 512, 8) + place(0, 8) for row in range(6)])
    torch.testing.assert_close(x_BGD, made.project(grid(6, 8)) + position_GD)


def test_places_travel_with_the_patches_that_are_kept() -> None:
    made, grid_BFM = tokenizer(), grid()
    keep_BG = torch.tensor([[0, 3, 8], [1, 2, 7]])
    kept = made.embed(Part(modality="audio", values=grid_BFM, keep_BG=keep_BG, step=STEP))
    whole = made.embed(Part(modality="audio", values=grid_BFM, step=STEP))
    torch.testing.assert_close(kept, torch.stack([row[keep] for row, keep in zip(whole, keep_BG, strict=True)]))
    every = made.embed(Part(modality="audio", values=grid_BFM, keep_BG=torch.arange(9).expand(2, -1), step=STEP))
    assert torch.equal(every, whole)


def test_its_weights_are_drawn_apart_and_nothing_is_random_later() -> None:
    assert SoundTokenizer.draws_alone
    part = Part(modality="audio", values=grid(), step=STEP)
    assert torch.equal(tokenizer().embed(part, torch_stream(3)), tokenizer().embed(part))


@pytest.mark.parametrize("rows", [ROWS + 1, 3])
def test_rows_that_are_no_whole_patches_are_an_error(rows: int) -> None:
    with pytest.raises(RuntimeError):
        tokenizer()(grid(rows), STEP)
