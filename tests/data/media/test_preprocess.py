"""What is made of a sample's picture or clip: sizes, statistics, one fixed view in evaluation."""

import io
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import faulty_data
from tests import made_data
from tests.small_run import small_recipe
from uniperceiver.config import AugmentConfig
from uniperceiver.data.media.preprocess import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGE_MEAN,
    IMAGE_STD,
    READERS,
    Preprocess,
    choose,
    clip_pixels,
    image_pixels,
)
from uniperceiver.data.tasks import open_tasks
from uniperceiver.errors import BrokenSample
from uniperceiver.records import Sample
from uniperceiver.streams import numpy_stream

VIEW = Preprocess(size=16, frames=3, stride=2)
COLOUR = (200, 100, 30)


def picture(height: int = 20, width: int = 30) -> np.ndarray:
    return numpy_stream(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_an_image_is_one_frame_with_the_statistics_of_imagenet() -> None:
    flat = np.full((20, 30, 3), COLOUR, dtype=np.uint8)
    pixels = image_pixels(Sample(id="a", image=flat), VIEW, None, None)
    assert pixels.shape == (1, 3, 16, 16)
    assert pixels.dtype == torch.float32
    expected = [(value / 255 - mean) / std for value, mean, std in zip(COLOUR, IMAGE_MEAN, IMAGE_STD, strict=True)]
    torch.testing.assert_close(pixels[0], torch.tensor(expected)[:, None, None].expand(3, 16, 16))


def test_a_clip_has_its_own_statistics_and_the_frames_of_its_stride() -> None:
    # Frame t has the value 10 t; of 9 frames the middle 5 are spanned by 3 frames, 2 apart.
    frames = np.arange(9, dtype=np.uint8)[:, None, None, None] * np.full((9, 20, 20, 3), 10, dtype=np.uint8)
    pixels = clip_pixels(Sample(id="a", clip=frames), VIEW, None, None)
    assert pixels.shape == (3, 3, 16, 16)
    expected = [(value / 255 - CLIP_MEAN[0]) / CLIP_STD[0] for value in (20, 40, 60)]
    torch.testing.assert_close(pixels[:, 0, 0, 0], torch.tensor(expected))


def test_statistics_are_fields_of_the_view() -> None:
    raw = replace(VIEW, size=20, image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0))
    image = picture(20, 20)
    pixels = image_pixels(Sample(id="a", image=image), raw, None, None)
    torch.testing.assert_close(pixels[0].permute(1, 2, 0), torch.from_numpy(image) / 255)


def test_an_encoded_image_is_the_same_as_its_pixels() -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, "PNG")
    seen = [image_pixels(Sample(id="a", image=image), VIEW, None, None) for image in (buffer.getvalue(), picture())]
    assert torch.equal(*seen)


def test_evaluation_has_one_view_and_training_that_of_its_stream() -> None:
    sample, augment = Sample(id="a", image=picture()), AugmentConfig(crop=0.3)
    fixed = image_pixels(sample, VIEW, None, None)
    assert torch.equal(fixed, image_pixels(sample, VIEW, augment, None))
    first, again, other = (image_pixels(sample, VIEW, augment, numpy_stream(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, fixed)
    assert first.shape == fixed.shape


@pytest.mark.parametrize(
    ("sample", "reason"),
    [(Sample(id="b", clip=picture()[None]), "has no image"), (Sample(id="b", image=b"no picture"), "picture|image")],
)
def test_a_missing_or_damaged_image_breaks_the_sample(sample: Sample, reason: str) -> None:
    with pytest.raises(BrokenSample, match=reason) as caught:
        image_pixels(sample, VIEW, None, None)
    assert caught.value.sample == "b"


def test_a_missing_clip_breaks_the_sample() -> None:
    with pytest.raises(BrokenSample, match="has no clip"):
        clip_pixels(Sample(id="b", image=picture()), VIEW, None, None)


def test_frames_are_chosen_by_the_stream_in_training() -> None:
    starts = {int(choose(9, VIEW, numpy_stream(seed))[0]) for seed in range(40)}
    assert starts == {0, 1, 2, 3, 4}
    assert choose(9, VIEW, None).tolist() == [2, 4, 6]
    assert choose(3, VIEW, None).tolist() == [0, 2, 2]


@pytest.mark.parametrize("megapixels", [0.5, 1000.0])
def test_a_limit_of_megapixels_is_saved_whether_low_or_high(megapixels: float) -> None:
    view = replace(VIEW, megapixels=megapixels)
    assert Preprocess(**view.to_json()) == view  # type: ignore[arg-type]


def test_a_view_is_saved_with_all_it_needs() -> None:
    values = VIEW.to_json()
    assert Preprocess(**values) == VIEW  # type: ignore[arg-type]
    assert {*values, "megapixels", "fit", "decode", "seconds", "hop", "sound"} == set(Preprocess.__dataclass_fields__)


def test_the_limit_of_megapixels_is_a_key_of_the_recipe(tmp_path: Path) -> None:
    (data,) = open_tasks(small_recipe(("colours",), data__megapixels=0.01), tmp_path)
    assert data.preprocess.to_json()["megapixels"] == 0.01
    assert "megapixels" not in VIEW.to_json()
    sample = Sample(id="x", image=made_data.picture(0))
    assert image_pixels(sample, data.preprocess, None, None).shape == (1, 3, 32, 32)
    with pytest.raises(BrokenSample, match=r"24 x 16: more than 0\.0001 megapixels; raise data\.megapixels"):
        image_pixels(sample, replace(data.preprocess, megapixels=0.0001), None, None)


def photograph(height: int = 240, width: int = 320) -> bytes:
    """A JPEG of smooth waves, so that a smaller one looks alike."""
    y, x = np.mgrid[:height, :width] / height
    wave_HWC = np.stack([np.sin(7 * x), np.cos(5 * y), np.sin(6 * (x + y))], axis=2)
    file = io.BytesIO()
    Image.fromarray(((wave_HWC + 1) * 127).astype(np.uint8)).save(file, format="JPEG", quality=95)
    return file.getvalue()


@pytest.mark.parametrize(
    ("crop", "decoded"),
    [
        (None, (60, 80)),  # a quarter: twice the 16 pixels that are seen, and more
        (1.0, (60, 80)),
        (0.1, (60, 80)),  # the smallest part is 0.1 * 3/4 of the area wide: 65 of 240 pixels, 16.4 at a quarter
        (0.09, (120, 160)),  # 15.6 at a quarter
        (0.01, (240, 320)),
    ],
)
def test_a_draft_keeps_the_pixels_of_the_smallest_part_that_is_seen(
    crop: float | None, decoded: tuple[int, int]
) -> None:
    augment = None if crop is None else AugmentConfig(crop=crop)
    assert replace(VIEW, decode="draft").decoded(photograph(), "a", augment).shape == (*decoded, 3)
    assert VIEW.decoded(photograph(), "a", augment).shape == (240, 320, 3)


def test_a_draft_looks_like_the_whole_and_is_saved_as_such() -> None:
    draft = replace(VIEW, decode="draft")
    sample = Sample(id="a", image=photograph())
    seen, whole = (image_pixels(sample, view, None, None) for view in (draft, VIEW))
    assert not seen.equal(whole)
    assert (seen - whole).abs().max() < 0.15  # of values from -2.2 to 2.7
    assert Preprocess(**draft.to_json()) == draft  # type: ignore[arg-type]
    assert "decode" not in VIEW.to_json()


def test_drafts_are_a_key_of_the_recipe(tmp_path: Path) -> None:
    (data,) = open_tasks(small_recipe(("colours",), data__decode="draft"), tmp_path)
    assert data.preprocess.decode == "draft"


def test_frames_of_a_decoded_clip_are_chosen_as_those_of_a_file() -> None:
    """From a random start in training, from the middle otherwise; people are shown those that a model looks at."""
    clip = np.arange(9, dtype=np.uint8)[:, None, None, None] * 20 * np.ones((1, 8, 8, 3), np.uint8)
    sample = Sample(id="c", clip=clip)
    view = Preprocess(size=8, frames=2, stride=2, clip_mean=(0.0, 0.0, 0.0), clip_std=(1.0, 1.0, 1.0))

    def seen(seed: int | None) -> list[int]:
        rng = None if seed is None else numpy_stream(seed)
        pixels_FCHW = READERS["video"].values(sample, view, AugmentConfig(), rng)
        return [round(value * 255 / 20) for value in pixels_FCHW.mean(dim=(1, 2, 3)).tolist()]

    assert seen(None) == [3, 5]
    assert [seen(seed) for seed in range(9)] == [choose(9, view, numpy_stream(seed)).tolist() for seed in range(9)]
    assert len({str(seen(seed)) for seed in range(9)}) > 3
    shown = READERS["video"].shown
    assert shown is not None
    assert [int(frame.mean()) // 20 for frame in shown(sample, view)] == [3, 5]


@pytest.mark.parametrize("modality", ["image", "video"])
def test_more_pixels_than_the_limit_are_neither_read_nor_shown(modality: str) -> None:
    data = faulty_data.picture(0) if modality == "image" else faulty_data.clip(0)
    sample, reader = Sample(id="large").with_value(modality, data), READERS[modality]
    assert reader.shown is not None
    few, many = Preprocess(size=8, megapixels=0.0001), Preprocess(size=8, megapixels=0.1)
    for read in (lambda view: reader.values(sample, view, None, None), partial(reader.shown, sample)):
        assert len(read(many)) == (1 if modality == "image" else many.frames)
        with pytest.raises(BrokenSample, match="megapixels"):
            read(few)
