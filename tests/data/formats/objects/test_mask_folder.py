"""Masks as pictures: a file per thing, or one with a colour per thing."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.drawn import write_picture, write_values
from uniperceiver.data.formats import class_names, labels_there, notes_of, open_source
from uniperceiver.data.formats.objects.mask_folder import MaskFolderData
from uniperceiver.errors import BrokenSample, UserError


def square(x: int, y: int, side: int, value: int = 255, dtype: Any = np.uint8) -> np.ndarray:
    """A mask of 60 x 40 with a square in it."""
    values = np.zeros((40, 60), dtype=dtype)
    values[y : y + side, x : x + side] = value
    return values


def opened(root: Path, **keys: Any) -> MaskFolderData:
    """Pictures a, b_1 and c, and the masks that are there."""
    for name in ("a", "b_1", "c"):
        write_picture(root / "images" / f"{name}.jpg.png".replace(".jpg", ""))
    source = open_source({"format": "mask_folder", "path": "masks", "images": "images", **keys}, "w", root)
    assert isinstance(source, MaskFolderData)
    return source


def test_a_colour_per_thing_and_a_file_per_thing(tmp_path: Path) -> None:
    ring = square(5, 5, 20, 3)
    ring[10:15, 10:15] = 0  # a hole
    write_values(tmp_path / "masks" / "a.png", ring + square(40, 20, 8, 700, np.uint16))
    write_values(tmp_path / "masks" / "b_1" / "x.png", square(1, 2, 3))
    write_values(tmp_path / "masks" / "b_1" / "y.png", square(10, 2, 4, 1))
    write_values(tmp_path / "masks" / "b_1_7.png", square(20, 20, 5, 200))
    write_values(tmp_path / "masks" / "zebra.png", square(20, 20, 5))
    source = pickle.loads(pickle.dumps(opened(tmp_path)))
    assert class_names(source) == ("thing",)
    assert labels_there(source) == {0}
    first, second, third = (source.read(index) for index in range(3))
    assert first.boxes.tolist() == [[5, 5, 25, 25], [40, 20, 48, 28]]
    assert first.areas.tolist() == [400 - 25, 64]
    assert np.array_equal(first.masks[0], ring > 0)
    assert [mask_HW.sum() for mask_HW in second.masks] == [9, 16, 25]
    assert second.boxes.tolist() == [[1, 2, 4, 5], [10, 2, 14, 6], [20, 20, 25, 25]]
    assert third.boxes.shape == (0, 4)
    assert set(notes_of(source)) == {
        f"{tmp_path / 'masks'}: 1 masks have no picture",
        f"{tmp_path / 'images'}: 1 of 3 pictures have no mask and are taken for pictures of nothing",
    }


def test_colours_palettes_and_void(tmp_path: Path) -> None:
    colours = np.zeros((40, 60, 3), dtype=np.uint8)
    colours[:10, :10] = (200, 0, 0)
    colours[20:30, :10] = (0, 200, 0)
    colours[:10, 30:40] = (0, 0, 200)
    write_values(tmp_path / "masks" / "a.png", colours)
    write_values(tmp_path / "masks" / "c.png", square(0, 0, 9, 4) + square(30, 30, 5, 255))
    source = opened(tmp_path, void=255)
    # Sorted by their value as one number: blue, green, red.
    assert source.read(0).boxes.tolist() == [[30, 0, 40, 10], [0, 20, 10, 30], [0, 0, 10, 10]]  # type: ignore[union-attr]
    assert source.read(2).boxes.tolist() == [[0, 0, 9, 9]]  # type: ignore[union-attr]


def test_a_folder_per_class(tmp_path: Path) -> None:
    write_values(tmp_path / "masks" / "cell" / "a.png", square(1, 1, 5, 7))
    write_values(tmp_path / "masks" / "dust" / "a_1.png", square(20, 20, 5))
    (tmp_path / "masks" / "dirt").mkdir()
    source = opened(tmp_path, classes=["dust", "dirt", "cell"])
    assert source.read(0).classes.tolist() == [0, 2]  # type: ignore[union-attr]
    assert labels_there(source) == {0, 2}
    with pytest.raises(UserError, match=r"w: classes: .*dart: no such file or folder; did you mean 'dirt'"):
        opened(tmp_path, classes=["dart"])


def test_edges_that_were_smoothed_are_no_things(tmp_path: Path) -> None:
    smooth = square(10, 10, 10) + square(9, 10, 1, 40) + square(20, 10, 1, 130)
    write_values(tmp_path / "masks" / "a" / "1.png", smooth)
    assert opened(tmp_path).read(0).boxes.tolist() == [[10, 10, 21, 20]]  # type: ignore[union-attr]


def test_masks_of_another_size_and_damaged_ones_cost_their_picture(tmp_path: Path) -> None:
    write_values(tmp_path / "masks" / "a.png", square(1, 1, 5)[:, :50])
    (tmp_path / "masks" / "c.png").write_text("no picture")
    source = opened(tmp_path)
    with pytest.raises(BrokenSample, match=r"^a\.png: mask a\.png has 50 x 40 pixels, the picture 60 x 40$"):
        source.read(0)
    with pytest.raises(BrokenSample, match=r"^c\.png: mask c\.png: damaged, or no PNG, BMP or TIFF"):
        source.read(2)


def test_masks_of_the_picture_as_it_is_stored_are_turned(tmp_path: Path) -> None:
    write_values(tmp_path / "masks" / "a.png", square(0, 0, 10, 1))
    source = opened(tmp_path)
    write_picture(tmp_path / "images" / "a.png", orientation=6)
    assert source.read(0).boxes.tolist() == [[30, 0, 40, 10]]  # type: ignore[union-attr]


def test_masks_of_no_picture_are_refused(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    with pytest.raises(
        UserError, match=r"no mask belongs to a picture; that of a\.png would be a\.png, or files in a/, or a_1\.png"
    ):
        opened(tmp_path)


def test_smoothed_colours_are_refused_and_thin_things_are_not(tmp_path: Path) -> None:
    """A line of pixels of a shade of its own, between two wide colours, is what interpolation leaves."""
    large = np.zeros((160, 240, 3), dtype=np.uint8)
    large[33:90, 41:107], large[90:131, 150:211] = (200, 0, 0), (0, 200, 0)
    small = Image.fromarray(large).resize((60, 40), Image.Resampling.BILINEAR)
    write_values(tmp_path / "masks" / "a.png", np.asarray(small))
    thin = square(30, 5, 20, 1)
    thin[2, 3:9], thin[5:20, 1], thin[22, 5:9], thin[25, 25], thin[30, 31], thin[8, 29] = 2, 3, 4, 5, 6, 7
    write_values(tmp_path / "masks" / "c.png", thin)
    source = opened(tmp_path)
    with pytest.raises(
        BrokenSample, match=r"^a\.png: mask a\.png: \d+ of its \d+ colours are thin lines along others, as"
    ):
        source.read(0)
    assert len(source.read(2).boxes) == 7  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_nothing(tmp_path: Path, mode: str) -> None:
    values = square(5, 5, 10, 90)
    if mode == "P":
        image = Image.fromarray(values + 7, "P")
        image.putpalette([255] * 768)
        image.info["transparency"] = 7
    else:
        image = Image.fromarray(values, "L").convert(mode)
        image.putalpha(Image.fromarray((values > 0).astype(np.uint8) * 255))
        image.paste((255,) * (len(mode) - 1) + (0,), (40, 0, 60, 40))
    (tmp_path / "masks").mkdir()
    image.save(tmp_path / "masks" / "a.png", "PNG")
    assert opened(tmp_path).read(0).boxes.tolist() == [[5, 5, 15, 15]]  # type: ignore[union-attr]
    everywhere = Image.fromarray(values, "L").convert("RGBA")
    everywhere.putalpha(0)  # colours alone count where nothing is seen
    everywhere.save(tmp_path / "masks" / "c.png", "PNG")
    assert opened(tmp_path).read(2).boxes.tolist() == [[5, 5, 15, 15]]  # type: ignore[union-attr]


def test_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    write_values(tmp_path / "masks" / "a.png", square(1, 1, 5))
    write_picture(tmp_path / "images" / "a.jpg")
    with pytest.raises(
        UserError, match=r"a\.jpg and a\.png have the same masks by their names; move one, or rename it$"
    ):
        opened(tmp_path)
