"""Transforms of images and clips: any size, the same for all frames, a function of the generator alone."""

import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from uniperceiver.config import AugmentConfig
from uniperceiver.data.media.geometry import random_part
from uniperceiver.data.media.randaugment import OPERATIONS, rand_augment
from uniperceiver.data.media.transforms import (
    choose_frames,
    erase,
    eval_view,
    flip,
    normalise,
    random_resized_crop,
    recolour,
    resize_and_centre_crop,
    train_view,
)
from uniperceiver.streams import numpy_stream

ALL_ON = AugmentConfig(crop=0.3, flip=0.5, randaugment=2, magnitude=9, erasing=0.5)
sides = st.one_of(st.integers(1, 40), st.sampled_from([1, 2, 3, 333, 700]))


def noise(frames: int, height: int, width: int) -> np.ndarray:
    return numpy_stream(0, "noise").integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def ramp(height: int, width: int) -> np.ndarray:
    """One frame whose red grows to the right and whose green grows downwards."""
    frame = np.zeros((1, height, width, 3), dtype=np.uint8)
    frame[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    frame[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    return frame


@settings(max_examples=60, deadline=None)
@given(frames=st.integers(1, 3), height=sides, width=sides, size=st.integers(1, 48), seed=st.integers(0, 999))
def test_any_size_becomes_the_asked_one(frames: int, height: int, width: int, size: int, seed: int) -> None:
    clip = noise(frames, height, width)
    before = clip.copy()
    for view in (
        eval_view(clip, size),
        train_view(clip, size, ALL_ON, numpy_stream(seed)),
        random_resized_crop(clip, size, 0.05, numpy_stream(seed)),
    ):
        assert view.shape == (frames, size, size, 3)
        assert view.dtype == np.uint8
    for same_size in (flip(clip), erase(clip, numpy_stream(seed)), rand_augment(clip, 2, 10, numpy_stream(seed))):
        assert same_size.shape == clip.shape
    assert np.array_equal(clip, before)


@pytest.mark.parametrize("shape", [(1, 1, 5000), (1, 5000, 1), (1, 1, 1), (1, 3, 5000)])
def test_long_and_thin_pictures_need_little_time_and_memory(shape: tuple[int, int, int]) -> None:
    clip = noise(*shape)
    tracemalloc.start()
    start = time.perf_counter()
    for seed in range(5):
        eval_view(clip, 64)
        eval_view(clip, 64, "squash")
        train_view(clip, 64, ALL_ON, numpy_stream(seed))
        train_view(clip, 64, ALL_ON, numpy_stream(seed), "squash")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.perf_counter() - start < 3  # 0.05 s, if nothing long is blown up
    assert peak < 2e6


def test_the_centre_crop_is_the_centre() -> None:
    wide, tall = resize_and_centre_crop(ramp(32, 64), 32), resize_and_centre_crop(ramp(64, 32), 16)
    assert abs(int(wide[0, 16, 0, 0]) - 64) < 5
    assert abs(int(wide[0, 16, -1, 0]) - 191) < 5
    assert wide[0, 0, 16, 1] < 5
    assert wide[0, -1, 16, 1] > 250
    assert abs(int(tall[0, 0, 8, 1]) - 66) < 6
    assert tall[0, 8, 0, 0] < 12


def test_resizing_is_antialiased() -> None:
    stripes = np.zeros((1, 64, 64, 3), dtype=np.uint8)
    stripes[:, :, ::2] = 255
    assert abs(resize_and_centre_crop(stripes, 16).astype(int) - 128).max() < 12


def test_nothing_changes_where_nothing_is_asked() -> None:
    clip = noise(2, 24, 24)
    assert np.array_equal(eval_view(clip, 24), clip)
    assert np.array_equal(train_view(clip, 24, AugmentConfig(), numpy_stream(3)), clip)
    wide = noise(1, 30, 50)
    assert np.array_equal(train_view(wide, 24, AugmentConfig(), numpy_stream(3)), eval_view(wide, 24))


def test_a_random_crop_is_where_and_as_large_as_it_may_be() -> None:
    starts, shares = [], []
    for seed in range(60):
        part = random_resized_crop(ramp(60, 60), 30, 0.25, numpy_stream(seed))[0].astype(int)
        wide, high = np.ptp(part[15, :, 0]) / 255, np.ptp(part[:, 15, 1]) / 255
        starts.append(part[15, 0, 0])
        shares.append(wide * high)
        assert 0.65 < wide / high < 1.55
    assert min(shares) > 0.2
    assert max(shares) > 0.8
    assert min(shares) < 0.4
    assert np.std(starts) > 15


@pytest.mark.parametrize(
    ("shape", "box"), [((12, 400), (192, 0, 208, 12)), ((400, 12), (0, 192, 12, 208)), ((12, 1), (0, 5, 1, 6))]
)
def test_of_a_long_picture_the_largest_nearly_square_part_at_the_centre_is_taken(
    shape: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    picture = noise(2, *shape)
    parts = [Image.fromarray(frame).resize((8, 8), Image.Resampling.BICUBIC, box=box) for frame in picture]
    for seed in range(3):
        assert np.array_equal(random_resized_crop(picture, 8, 0.9, numpy_stream(seed)), np.stack(parts))


def test_flip_mirrors_left_and_right_only() -> None:
    clip = noise(2, 5, 6)
    assert np.array_equal(flip(clip)[:, :, 0], clip[:, :, -1])
    assert np.array_equal(flip(flip(clip)), clip)
    flipped = [
        np.array_equal(train_view(clip, 5, AugmentConfig(flip=share), numpy_stream(seed)), flip(eval_view(clip, 5)))
        for share in (0.0, 0.5, 1.0)
        for seed in range(20)
    ]
    assert sum(flipped[:20]) == 0
    assert 3 < sum(flipped[20:40]) < 17
    assert sum(flipped[40:]) == 20


@pytest.mark.parametrize(
    "transform",
    [
        lambda clip, rng: random_resized_crop(clip, 16, 0.2, rng),
        lambda clip, rng: rand_augment(clip, 3, 9, rng),
        erase,
        lambda clip, rng: train_view(clip, 16, ALL_ON, rng),
    ],
)
def test_all_frames_alike_and_only_the_generator_decides(
    transform: Callable[[np.ndarray, np.random.Generator], np.ndarray],
) -> None:
    clip = np.repeat(ramp(20, 24), 3, axis=0)
    views = [transform(clip, numpy_stream(seed)) for seed in range(12)]
    for seed, view in enumerate(views):
        assert (view == view[0]).all()
        assert np.array_equal(view, transform(clip, numpy_stream(seed)))
    assert len({view.tobytes() for view in views}) > 6


def test_erasing_hits_one_rectangle_of_the_right_area() -> None:
    for seed in range(30):
        clip = np.full((2, 40, 50, 3), 7, dtype=np.uint8)
        hit = (erase(clip, numpy_stream(seed)) != 7).any(axis=-1)[0]
        rows, columns = np.nonzero(hit)
        area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert 0.01 < area / 2000 < 0.35
        assert hit.sum() == area


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_changes_a_picture_and_fits_any(name: str) -> None:
    picture = Image.fromarray((ramp(20, 30)[0] // 2 + 20).astype(np.uint8))
    strong = OPERATIONS[name](picture, 0.9)
    assert strong.size == picture.size
    assert strong.mode == "RGB"
    if name != "sharpness":  # a ramp has no edges
        assert np.asarray(strong).tobytes() != np.asarray(picture).tobytes()
    if name in ("rotate", "colour", "contrast", "brightness", "sharpness", "shear_x", "shear_y", "posterise"):
        still = np.asarray(OPERATIONS[name](picture, 0.0)).astype(int)
        assert abs(still - np.asarray(picture)).max() <= 1
    assert OPERATIONS[name](picture.resize((1, 1)), -0.9).size == (1, 1)


def test_translations_and_shears_go_where_their_names_say() -> None:
    dot = np.zeros((1, 21, 21, 3), dtype=np.uint8)
    dot[0, 10, 4] = 255

    def centre(name: str) -> tuple[int, int]:
        moved = np.asarray(OPERATIONS[name](Image.fromarray(dot[0]), 0.5))[..., 0].astype(int)
        inside = np.where(moved == 128, 0, moved)
        row, column = np.unravel_index(inside.argmax(), inside.shape)
        return int(row), int(column)

    assert centre("translate_x")[0] == 10
    assert centre("translate_x")[1] != 4
    assert centre("translate_y")[1] == 4
    assert centre("translate_y")[0] != 10
    assert centre("shear_x") == (10, 4)  # the middle row stays
    assert centre("shear_y")[1] == 4
    assert centre("shear_y")[0] != 10


def test_operations_with_statistics_do_not_flicker() -> None:
    clip = np.stack([np.full((8, 8, 3), 60, np.uint8), np.full((8, 8, 3), 120, np.uint8)])
    clip[:, :4] += 20
    for seed in range(200):
        view = rand_augment(clip, 1, 0, numpy_stream(seed))
        if view.min() == 0 and view.max() == 255:  # auto contrast stretches all frames together
            assert view[0].max() < view[1].min()
            return
    pytest.fail("auto contrast was never drawn")


def test_normalise_is_value_minus_mean_over_std() -> None:
    clip, mean, std = noise(2, 3, 4), (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    out = normalise(clip, mean, std)
    assert out.shape == (2, 3, 3, 4)
    assert out.dtype == np.float32
    assert out.flags["C_CONTIGUOUS"]
    for colour in range(3):
        wanted = (clip[..., colour] / 255 - mean[colour]) / std[colour]
        np.testing.assert_allclose(out[:, colour], wanted, atol=1e-5)


@given(
    available=st.integers(1, 50),
    frames=st.integers(1, 20),
    stride=st.integers(1, 7),
    seed=st.one_of(st.none(), st.integers(0, 99)),
)
def test_chosen_frames_exist_and_are_stride_apart(available: int, frames: int, stride: int, seed: int | None) -> None:
    chosen = choose_frames(available, frames, stride, None if seed is None else numpy_stream(seed))
    span = (frames - 1) * stride + 1
    assert chosen.shape == (frames,)
    assert chosen.dtype == np.int64
    assert chosen.min() >= 0
    assert chosen.max() < available
    if span <= available:
        assert (np.diff(chosen) == stride).all()
        if seed is None:
            assert abs(chosen[0] - (available - 1 - chosen[-1])) <= 1
    else:
        assert chosen.tolist() == [min(place * stride, available - 1) for place in range(frames)]


def test_training_clips_start_anywhere() -> None:
    starts = {int(choose_frames(10, 4, 2, numpy_stream(seed))[0]) for seed in range(60)}
    assert starts == {0, 1, 2, 3}


@pytest.mark.parametrize("wrong", [(0, 4, 1), (4, 0, 1), (4, 4, 0)])
def test_no_frames_is_an_error(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="frames"):
        choose_frames(*wrong, None)


def test_operations_go_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    strengths: list[float] = []

    def operation(image: Image.Image, strength: float) -> Image.Image:
        strengths.append(strength)
        return image

    monkeypatch.setattr("uniperceiver.data.media.randaugment.OPERATIONS", {"brightness": operation})
    rand_augment(np.zeros((1, 4, 4, 3), np.uint8), 200, 4, numpy_stream(0))
    assert set(strengths) == {0.4, -0.4}
    assert 70 < strengths.count(-0.4) < 130


def test_crops_are_as_often_wide_as_high() -> None:
    rng = numpy_stream(0)
    boxes = [random_part(400, 400, 0.1, rng) for _ in range(2000)]
    aspects = np.array([(right - left) / (bottom - top) for left, top, right, bottom in boxes])
    assert 0.47 < np.mean(aspects > 1) < 0.53
    assert np.percentile(aspects, 1) == pytest.approx(3 / 4, abs=0.02)
    assert np.percentile(aspects, 99) == pytest.approx(4 / 3, abs=0.02)


@pytest.mark.parametrize(
    "name", ["auto_contrast", "equalise", "invert", "posterise", "solarise", "colour", "contrast", "brightness"]
)
def test_equal_pixels_of_a_clip_stay_equal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else is in their frames: statistics such as the mean are those of the whole clip."""
    monkeypatch.setattr("uniperceiver.data.media.randaugment.OPERATIONS", {name: OPERATIONS[name]})
    clip = np.zeros((2, 24, 24, 3), np.uint8)
    clip[0], clip[1] = (40, 90, 60), (200, 220, 180)
    clip[:, 4:] += numpy_stream(0).integers(0, 30, (2, 20, 24, 3), dtype=np.uint8)
    clip[:, :2] = (120, 100, 140)
    view = rand_augment(clip, 1, 8, numpy_stream(1))
    assert np.array_equal(view[0, 0, 0], view[1, 0, 0])
    assert not np.array_equal(view, clip)


def test_the_strongest_solarisation_is_the_negative() -> None:
    ramp_HW = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = Image.fromarray(np.stack([ramp_HW] * 3, axis=-1))
    assert np.array_equal(np.asarray(OPERATIONS["solarise"](picture, 1.0)), 255 - np.asarray(picture))
    assert np.array_equal(np.asarray(OPERATIONS["solarise"](picture, 0.0)), np.asarray(picture))


def test_brightness_and_contrast_change_and_nothing_else_is_drawn_without_them() -> None:
    clip = noise(2, 20, 30)
    changed = [recolour(clip, 0.5, numpy_stream(seed)) for seed in range(20)]
    assert all(view.dtype == np.uint8 and view.shape == clip.shape for view in changed)
    means = [float(view.mean()) for view in changed]
    assert max(means) > 1.1 * clip.mean() > 0.9 * clip.mean() > min(means)
    flat = np.full((1, 4, 4, 3), 100, dtype=np.uint8)
    assert all(50 <= value <= 150 for seed in range(20) for value in recolour(flat, 0.5, numpy_stream(seed)).ravel())
    brightness, contrast = numpy_stream(7).uniform(0.5, 1.5, 2)
    expected = np.clip(((clip * brightness - clip.mean() * brightness) * contrast + clip.mean() * brightness), 0, 255)
    assert np.abs(recolour(clip, 0.5, numpy_stream(7)) - expected).max() <= 1
    plain, coloured = numpy_stream(1), numpy_stream(1)
    train_view(clip, 8, AugmentConfig(), plain)
    train_view(clip, 8, AugmentConfig(colour=0.3), coloured)
    coloured_next, plain_draws = coloured.random(), plain.random(3)
    assert coloured_next == plain_draws[2]
