"""Pictures and clips that are stored again: no larger than wanted, and what is small stays as it is."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.clips import clip_bytes, fixed, which
from uniperceiver.data.media.clips import Extent, clip_extent, decode_clip
from uniperceiver.data.media.decode import decode_image
from uniperceiver.data.prepare.recode import small_clip, small_image
from uniperceiver.errors import BrokenSample


def encoded(x_HWC: np.ndarray, kind: str, **options: object) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    Image.fromarray(x_HWC).save(file, kind, **options)
    return file.getvalue()


def noise(height: int, width: int) -> np.ndarray:
    """Pixels that differ everywhere."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("kind", "suffix"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")])
def test_a_small_file_stays(kind: str, suffix: str) -> None:
    data = encoded(noise(20, 40), kind)
    assert small_image(data, 20, "x") == (suffix, data)
    assert small_image(data, 19, "x")[0] == "jpg"


@pytest.mark.parametrize("kind", ["BMP", "GIF", None])
def test_what_a_shard_cannot_name_becomes_png_without_loss(kind: str | None) -> None:
    x_HWC = noise(20, 40) if kind != "GIF" else np.zeros((20, 40, 3), dtype=np.uint8)
    suffix, data = small_image(x_HWC if kind is None else encoded(x_HWC, kind), 20, "x")
    assert suffix == "png"
    assert (decode_image(data, "x") == x_HWC).all()


@pytest.mark.parametrize(
    ("height", "width", "small"), [(40, 80, (16, 32)), (80, 40, (32, 16)), (1, 5000, (1, 5000)), (100, 5000, (16, 800))]
)
def test_the_shorter_side_counts(height: int, width: int, small: tuple[int, int]) -> None:
    _, data = small_image(encoded(noise(height, width), "PNG"), 16, "x")
    assert decode_image(data, "x").shape[:2] == small


def test_a_picture_that_lies_on_its_side_is_stored_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(np.repeat(np.arange(64, dtype=np.uint8)[:, None, None] * 4, 96, 1).repeat(3, 2), "JPEG", exif=exif)
    suffix, small = small_image(data, 32, "x")
    with Image.open(io.BytesIO(small)) as image:
        assert image.size == (32, 48)
        assert not image.getexif()
    expected = np.asarray(Image.fromarray(decode_image(data, "x")).resize((32, 48), Image.Resampling.BICUBIC))
    assert np.abs(decode_image(small, "x").astype(int) - expected).mean() < 3
    assert suffix == "jpg"


def test_broken_files_are_named() -> None:
    for call in (lambda: small_image(b"<html>", 8, "x"), lambda: small_clip(clip_bytes()[:500], 8, "x")):
        with pytest.raises(BrokenSample, match=r"^x: "):
            call()


@pytest.mark.parametrize(
    ("kind", "codec", "suffix"), [("mp4", "libx264", "mp4"), ("avi", "mpeg4", "avi"), ("webm", "libvpx", "webm")]
)
def test_a_small_clip_stays(kind: str, codec: str, suffix: str) -> None:
    data = clip_bytes(4, kind, codec)
    assert small_clip(data, 32, "x") == (suffix, data)


@pytest.mark.parametrize("kind", ["mp4", "matroska"])
def test_a_large_clip_keeps_all_its_frames_in_order(kind: str) -> None:
    suffix, data = small_clip(clip_bytes(12, kind), 16, "x")
    assert (suffix, clip_extent(data, "x")) == ("mp4", Extent(frames=12, height=16, width=24))
    assert which(decode_clip(data, "x", fixed(*range(12)))) == list(range(12))


def test_a_container_that_a_shard_cannot_name_becomes_mp4() -> None:
    suffix, data = small_clip(clip_bytes(4, "matroska"), 64, "x")
    assert (suffix, clip_extent(data, "x")) == ("mp4", Extent(frames=4, height=32, width=48))


def test_frames_as_pixels_become_a_clip_of_even_sides() -> None:
    frames = np.stack([np.full((33, 47, 3), 16 * index + 30, dtype=np.uint8) for index in range(6)])
    suffix, data = small_clip(frames, 64, "x")
    assert (suffix, clip_extent(data, "x")) == ("mp4", Extent(frames=6, height=34, width=48))
    assert which(decode_clip(data, "x", fixed(*range(6)))) == list(range(6))
    assert clip_extent(small_clip(frames[:1, :1, :1], 64, "x")[1], "x") == Extent(frames=1, height=2, width=2)


def test_without_x264_another_encoder_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("av.codec.codecs_available", {"mpeg4"})
    suffix, data = small_clip(clip_bytes(5), 16, "x")
    assert (suffix, which(decode_clip(data, "x", fixed(*range(5))))) == ("mp4", list(range(5)))
