"""Pictures of other sizes than a checkpoint was trained with: 160, 224 and 384 pixels in patches of 16 are 10, 14, 24.

Shape suffixes: G patches of a picture, D width.
"""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from tests.model.official.made_up import GIVEN, GRID, IDS, PATCH, WIDTH, original
from tests.model.official.test_variant import TABLE, sincos
from tests.shared import GOLDEN, needs_golden
from uniperceiver.model.model import Generalist
from uniperceiver.model.official.convert import convert_state
from uniperceiver.model.official.variant import Choices
from uniperceiver.tasks.task import TEMPERATURES


def positions(model: Generalist, grid: int) -> Tensor:
    """The spatial vectors of a picture of grid x grid patches, (G, D), as the tokenizer adds them."""
    patches = model.tokenizer.patches
    side = grid * patches.patch
    with torch.no_grad():
        return patches(torch.zeros(1, 1, 3, side, side))[0] - patches.project.bias - patches.temporal[0]


def converted(given: Choices = GIVEN, table_GD: Tensor | None = None) -> Generalist:
    state = original() if table_GD is None else {**original(), TABLE: table_GD}
    return convert_state(state, given, **IDS, where="a file").model  # type: ignore[arg-type]


@pytest.mark.parametrize(("trained", "asked"), [(10, 10), (10, 14), (14, 14), (14, 24), (24, 10)])
def test_computed_positions_are_scaled_as_the_originals(trained: int, asked: int) -> None:
    model = converted(table_GD=sincos(trained, 10 / trained))
    assert model.tokenizer.patches.spatial.kind == "sincos"
    torch.testing.assert_close(positions(model, asked), sincos(asked, 10 / asked), atol=1e-5, rtol=0)


@pytest.mark.parametrize("asked", [GRID, 3, 5])
def test_a_table_is_interpolated(asked: int) -> None:
    model, table_GD = converted(), original()[TABLE]
    grid_DHW = table_GD.reshape(GRID, GRID, WIDTH).permute(2, 0, 1)
    expected = F.interpolate(grid_DHW[None], size=(asked, asked), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(positions(model, asked), expected.flatten(1).T, atol=1e-5, rtol=0)


def recorded(table_GD: Tensor) -> Generalist:
    """The recorded dense model with another table of positions."""
    state = {**load_file(GOLDEN / "dense" / "state_dict.safetensors"), TABLE: table_GD}
    ids = {"end": 1020, "answer": 1023, "temperatures": TEMPERATURES}
    return convert_state(state, Choices(heads=4), **ids, where="a file").model  # type: ignore[arg-type]


@needs_golden
def test_computed_positions_are_those_recorded() -> None:
    numbers = load_file(GOLDEN / "misc" / "numerics.safetensors")
    for trained in ("sincos.grid10_scale1", "sincos.grid14_scale160_224"):
        model = recorded(numbers[trained])
        assert model.tokenizer.patches.spatial.kind == "sincos"
        for grid, name in ((10, "sincos.grid10_scale1"), (14, "sincos.grid14_scale160_224")):
            torch.testing.assert_close(positions(model, grid), numbers[name], atol=1e-5, rtol=0)


@needs_golden
def test_an_interpolated_table_is_the_recorded_one() -> None:
    numbers = load_file(GOLDEN / "misc" / "numerics.safetensors")
    model = recorded(numbers["resize.spatial.before"])
    assert model.tokenizer.patches.spatial.kind == "table"
    torch.testing.assert_close(positions(model, 4), numbers["resize.spatial.before"], atol=1e-5, rtol=0)
    torch.testing.assert_close(positions(model, 6), numbers["resize.spatial.after"], atol=1e-5, rtol=0)


def test_patches_are_whole_whatever_the_size() -> None:
    model = converted()
    assert model.tokenizer.patches(torch.rand(2, 3, 3, 5 * PATCH, 3 * PATCH)).shape == (2, 3 * 5 * 3, WIDTH)
