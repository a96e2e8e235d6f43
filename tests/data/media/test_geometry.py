"""One window for pixels, boxes and masks: they go the same way, and back."""

import io

import numpy as np
import pytest
from PIL import Image

from uniperceiver.config import AugmentConfig
from uniperceiver.data.media.decode import decode_image, stored_size
from uniperceiver.data.media.geometry import (
    Fit,
    PictureWindow,
    evaluation_window,
    training_window,
    upright_boxes,
    upright_mask,
)
from uniperceiver.streams import numpy_stream

ALL = AugmentConfig(crop=0.3, flip=0.5, flip_vertical=0.5)


def random_boxes(rng: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    """Corners anywhere in a picture, (count, 4)."""
    x_M2 = np.sort(rng.uniform(0, width, (count, 2)), axis=1)
    y_M2 = np.sort(rng.uniform(0, height, (count, 2)), axis=1)
    return np.stack([x_M2[:, 0], y_M2[:, 0], x_M2[:, 1], y_M2[:, 1]], axis=1)


def random_window(seed: int) -> tuple[PictureWindow, int, int]:
    """A window of a picture of a random size, and that size."""
    rng = numpy_stream(seed, "window")
    height, width = (int(side) for side in rng.integers(1, 4000, 2))
    fit: Fit = "squash" if seed % 2 else "crop"
    return training_window(height, width, ALL, rng, fit), height, width


def test_boxes_come_back_from_a_thousand_windows() -> None:
    windows = [random_window(seed) for seed in range(1000)]
    assert {(window.flip, window.flip_vertical) for window, _, _ in windows} == {
        (a, b) for a in (True, False) for b in (True, False)
    }
    for seed, (window, height, width) in enumerate(windows):
        box_M4 = random_boxes(numpy_stream(seed, "boxes"), 5, height, width)
        share_M4 = window.boxes(box_M4)
        assert (share_M4[:, :2] <= share_M4[:, 2:]).all()
        # As a model has them: cx cy w h, in float32.
        seen_M4 = np.concatenate([(share_M4[:, :2] + share_M4[:, 2:]) / 2, share_M4[:, 2:] - share_M4[:, :2]], axis=1)
        seen_M4 = seen_M4.astype(np.float32).astype(np.float64)
        answer_M4 = np.concatenate([seen_M4[:, :2] - seen_M4[:, 2:] / 2, seen_M4[:, :2] + seen_M4[:, 2:] / 2], axis=1)
        assert np.abs(window.picture_boxes(share_M4) - box_M4).max() <= 1e-9
        assert np.abs(window.picture_boxes(answer_M4) - box_M4).max() <= 1e-3
        assert 0 <= window.left < window.right <= width
        assert 0 <= window.top < window.bottom <= height


@pytest.mark.parametrize("seed", range(40))
def test_pixels_go_where_their_boxes_go(seed: int) -> None:
    rng = numpy_stream(seed, "pixels")
    height, width = (int(side) for side in rng.integers(60, 200, 2))
    window = training_window(height, width, ALL, rng, "squash" if seed % 2 else "crop")
    x0, y0 = int(rng.integers(width - 24)), int(rng.integers(height - 24))
    picture_HWC = np.zeros((height, width, 3), dtype=np.uint8)
    picture_HWC[y0 : y0 + 24, x0 : x0 + 24] = 255
    mask_HW = picture_HWC[..., 0] > 0
    view_HW = window.pixels(picture_HWC[None], 320)[0, ..., 0] >= 128
    seen_HW = window.mask(mask_HW, 320)
    box = np.clip(window.boxes(np.array([[x0, y0, x0 + 24, y0 + 24]])), 0, 1)[0] * 320
    expected_HW = np.zeros((320, 320), dtype=bool)
    left, top, right, bottom = box.round().astype(int)
    expected_HW[top:bottom, left:right] = True
    for found_HW in (view_HW, seen_HW):
        assert (found_HW ^ expected_HW).sum() <= 0.02 * max(expected_HW.sum(), 320) + 2 * 320 * (box % 1 > 0).any()
    if expected_HW.sum() > 2000:
        assert (seen_HW & view_HW).sum() / (seen_HW | view_HW).sum() > 0.95


@pytest.mark.parametrize("seed", range(50))
def test_masks_come_back(seed: int) -> None:
    rng = numpy_stream(seed, "masks")
    height, width = (int(side) for side in rng.integers(100, 300, 2))
    window = training_window(height, width, ALL, rng, "squash" if seed % 2 else "crop")
    y, x = np.mgrid[:height, :width] + 0.5
    centre_x, centre_y = rng.uniform(0.3, 0.7, 2) * (width, height)
    mask_HW = ((x - centre_x) / (0.3 * width)) ** 2 + ((y - centre_y) / (0.3 * height)) ** 2 < 1
    view_SS = window.mask(mask_HW, 448)
    back_HW = window.picture_mask(np.where(view_SS, 4.0, -4.0).astype(np.float32), height, width)
    inside_HW = (x > window.left) & (x < window.right) & (y > window.top) & (y < window.bottom)
    assert not back_HW[~inside_HW].any()
    shared = (back_HW & mask_HW & inside_HW).sum()
    assert shared / (back_HW | (mask_HW & inside_HW)).sum() >= 0.98


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_and_masks_turn_as_exif_turns_the_picture(orientation: int) -> None:
    stored_HWC = np.zeros((40, 72, 3), dtype=np.uint8)
    stored_HWC[8:16, 24:56] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(stored_HWC).save(file, "PNG", exif=exif)
    shown_HWC = decode_image(file.getvalue(), "a")
    size = stored_size(file.getvalue(), "a")
    assert (size.height, size.width, size.orientation) == (40, 72, orientation)
    assert size.upright == shown_HWC.shape[:2]
    assert np.array_equal(upright_mask(stored_HWC[..., 0] > 0, orientation), shown_HWC[..., 0] > 0)
    box_M4 = upright_boxes(np.array([[24.0, 8.0, 56.0, 16.0]]), orientation, 40, 72)
    rows, columns = np.flatnonzero(shown_HWC.any(axis=(1, 2))), np.flatnonzero(shown_HWC.any(axis=(0, 2)))
    assert box_M4.tolist() == [[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]]
    # Through a view and back, in the upright picture.
    window = training_window(*size.upright, ALL, numpy_stream(orientation), "squash")
    assert np.abs(window.picture_boxes(window.boxes(box_M4)) - box_M4).max() <= 1e-9


def test_a_squashed_view_shows_all_and_a_cropped_one_the_centre() -> None:
    assert evaluation_window(30, 50, "squash").edges == (0, 0, 50, 30)
    assert evaluation_window(30, 50, "crop").edges == (10, 0, 40, 30)
    assert training_window(30, 51, AugmentConfig(), numpy_stream(0)).edges == (10.5, 0, 40.5, 30)


def test_parts_of_a_squashed_view_have_the_aspect_of_the_picture_give_or_take_a_third() -> None:
    for seed in range(100):
        window = training_window(200, 1000, AugmentConfig(crop=0.4), numpy_stream(seed), "squash")
        width, height = (window.right - window.left) / 1000, (window.bottom - window.top) / 200
        assert 0.39 <= width * height <= 1.01
        assert 0.74 <= width / height <= 1.34


def test_a_flip_that_is_off_draws_nothing() -> None:
    """So that runs of before there was a vertical flip draw what they drew."""
    first, second = numpy_stream(3), numpy_stream(3)
    training_window(30, 50, AugmentConfig(crop=0.5, flip=0.5), first)
    training_window(30, 50, AugmentConfig(crop=0.5, flip=0.5, flip_vertical=0.5), second)
    second_after, first_after = second.random(), first.random()
    assert second_after != first_after
    third = numpy_stream(3)
    training_window(30, 50, AugmentConfig(crop=0.5, flip=0.5), third)
    third.random()
    assert third.random() == second_after


def test_a_thing_that_covers_half_of_no_pixel_is_still_there() -> None:
    mask_HW = np.zeros((100, 100), dtype=bool)
    mask_HW[50:52, 10] = True
    window = evaluation_window(100, 100)
    assert window.mask(mask_HW, 8).sum() == 1
    assert not window.mask(np.zeros((100, 100), dtype=bool), 8).any()
