"""What a user hands over is recognised."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from uniperceiver.data.media.decode import decode_image
from uniperceiver.errors import UserError
from uniperceiver.serving.inputs import (
    clip_samples,
    image_samples,
    modality_of,
    samples_of,
    text_samples,
)


@pytest.mark.parametrize(
    ("items", "modality"),
    [
        ("a.jpg", "image"),
        ("A.JPEG", "image"),
        ("clip.MP4", "video"),
        (Path("clip.webm"), "video"),
        (Path("anything"), "image"),
        ("folder/file", "image"),
        ("a red square.", "text"),
        ("a cat and/or a dog: 10/10", "text"),
        ("x" * 5000, "text"),
        ("null\0byte", "text"),
        ("it is 10.5", "text"),
        (bytearray(b"bytes"), "image"),
        (io.BytesIO(b"bytes"), "image"),
        (np.array(["a.mp4", "b.mp4"]), "video"),
        (b"bytes", "image"),
        ([b"bytes"], "image"),
        (Image.new("RGB", (2, 2)), "image"),
        (np.zeros((2, 2, 3)), "image"),
        ([torch.zeros(2, 2, 3)], "image"),
        ([np.zeros((4, 2, 2, 3))], "video"),
        (np.zeros((5, 4, 2, 2, 3)), "video"),
        ([], "image"),
    ],
)
def test_modalities(items: Any, modality: str) -> None:
    assert modality_of(items) == modality


def test_the_modality_that_is_given_counts() -> None:
    assert modality_of(b"bytes", "video") == "video"
    with pytest.raises(UserError, match="unknown modality 'img'"):
        modality_of(b"bytes", "img")


@pytest.mark.parametrize("text", ["picture", "IMG_0001.HEIX", ["a text", "b.mp4"], ["a text", "notes.txt"]])
def test_a_text_that_may_be_a_file_is_refused(text: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("picture").touch()
    with pytest.raises(UserError, match=r"is a text, or the name of a file: give pathlib.Path\(...\), or say modality"):
        modality_of(text)
    assert modality_of(text, "text") == "text"
    assert modality_of(Path("picture")) == "image"


@pytest.mark.parametrize("make", [np.zeros, torch.zeros])
def test_an_array_that_may_be_images_or_a_clip_is_refused(make: Any) -> None:
    array = make((4, 3, 64, 64))
    message = r"shape \(4, 3, 64, 64\) is 4 images, or one clip of 4 frames: give list\(array\) for images, \[array\]"
    with pytest.raises(UserError, match=message):
        modality_of(array)
    assert modality_of(list(array)) == "image"
    assert modality_of([array]) == "video"
    assert modality_of(array, "image") == "image"


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (None, "inputs: a NoneType is no input; give a path, bytes, an opened file"),
        (3, "inputs: a int is no input; give a path"),
        ({"a.jpg"}, "a set has no order"),
        ([None], "image 0: a NoneType is no input"),
        (io.StringIO("text"), "image 0: opened as text; open it with mode 'rb'"),
        ("a\0b", r"^a\?b: cannot be read \("),
        (np.zeros((3, 8, 3)), r"image 0: an array of shape \(3, 8, 3\) may have its channels first or last"),
        ([torch.zeros(2, 3, 8, 8)], r"of 2 of them give list\(batch\)"),
        (torch.zeros(3, 8, 8, device="meta"), "image 0: a tensor whose values cannot be had"),
        (torch.zeros(8, 8, 3, dtype=torch.complex64), "values must be uint8, or floats from 0 to 1"),
        ([[[1, 2], [3]]], "image 0: no array can be made of this list"),
    ],
)
def test_what_is_no_image_is_named(items: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        image_samples(items)
    assert "\n" not in str(caught.value)


def test_values_are_kept() -> None:
    picture = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    for given in (picture, picture.transpose(2, 0, 1), picture / 255, torch.tensor(picture), Image.fromarray(picture)):
        (sample,) = image_samples(given)
        assert isinstance(sample.image, np.ndarray)
        assert sample.image.dtype == np.uint8
        assert np.array_equal(sample.image, picture)
    batch = image_samples(np.stack([picture, picture]))
    assert [sample.id for sample in batch] == ["image 0", "image 1"]
    (clip,) = clip_samples(np.stack([picture, picture]).transpose(0, 3, 1, 2))
    assert isinstance(clip.clip, np.ndarray)
    assert np.array_equal(clip.clip[1], picture)


def test_bytes_come_in_any_form(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.new("RGB", (3, 2), "red").save(path)
    stream = io.BytesIO()
    Image.open(path).save(stream, format="PNG")  # which leaves it at its end
    data = stream.getvalue()
    with path.open("rb") as opened:
        for form in (data, bytearray(data), memoryview(data), stream, opened):
            (sample,) = image_samples(form)
            assert isinstance(sample.image, bytes)
            assert np.array_equal(decode_image(sample.image, ""), decode_image(data, ""))
            assert clip_samples([form])[0].clip == sample.image
        assert image_samples(opened)[0].id == str(path)
    path.unlink()
    assert len(image_samples([stream, stream])) == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bytes_as_shares_come_back(dtype: type) -> None:
    """The nearest byte is taken, as also those of other programs are a little off."""
    image_HWC = np.arange(1, 255, dtype=np.uint8).reshape(2, 127, 1).repeat(3, axis=2)
    for off in (-0.4, 0.0, 0.4):
        (sample,) = image_samples((image_HWC.astype(dtype) + dtype(off)) / dtype(255))
        assert np.array_equal(sample.image, image_HWC)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn])
def test_tensors_of_any_float_are_read(dtype: torch.dtype) -> None:
    with torch.inference_mode():
        tensor = (torch.arange(4 * 5 * 3).reshape(4, 5, 3) % 2).to(dtype)
    (sample,) = image_samples(tensor)
    assert isinstance(sample.image, np.ndarray)
    assert sample.image.max() == 255
    assert np.array_equal(sample.image, tensor.float().numpy() * 255)
    (sample,) = image_samples(tensor.float().clone().requires_grad_().permute(2, 0, 1).to_sparse())
    assert np.array_equal(sample.image, tensor.float().numpy() * 255)  # type: ignore[arg-type]


def test_pictures_of_more_than_eight_bits_are_no_black_ones() -> None:
    ramp = np.linspace(0, 1, 12).reshape(3, 4)
    deep = (ramp * 65535).astype(np.uint16)
    expected = deep >> 8
    for picture in (Image.fromarray(deep), Image.fromarray(deep.astype(np.int32))):
        (sample,) = image_samples(picture)
        assert np.array_equal(np.asarray(sample.image)[..., 0], expected)
    for dark in (0, 4096):  # all black, and just not nearly
        (sample,) = image_samples(Image.new("I;16", (2, 2), dark))
        assert np.asarray(sample.image).max() == dark >> 8
    (sample,) = image_samples(Image.fromarray(ramp.astype(np.float32)))
    assert np.array_equal(np.asarray(sample.image)[..., 1], (ramp.astype(np.float32) * 255).round())
    for wrong, reason in (
        (
            Image.fromarray((ramp * 255).astype(np.int32)),
            "mode I would all be black; scale them to 0 to 65535, or save 8 bits",
        ),
        (
            Image.fromarray((ramp * 4095).astype(np.uint16)),
            "to 4095 in mode I;16 would be nearly black, as 12 bits in 16",
        ),
        (
            Image.fromarray((ramp * -9).astype(np.int32)),
            "from -9 to 0 in mode I do not fit into 16 bits; scale them, or",
        ),
        (Image.fromarray((ramp * 255).astype(np.uint16)), "mode I;16 would all be black"),
        (Image.fromarray((ramp * 70000).astype(np.int32)), "from 0 to 70000 in mode I do not fit into 16 bits"),
        (Image.fromarray((ramp * 255).astype(np.float32)), "from 0 to 255 in mode F; scale them to 0 to 1"),
        (Image.fromarray(np.full((2, 2), np.nan, np.float32)), "from nan to nan in mode F"),
    ):
        with pytest.raises(UserError, match=f"image 0: values .*{reason}"):
            image_samples(wrong)


def test_grey_and_transparent_pictures_become_rgb() -> None:
    for mode in ("L", "RGBA", "P", "1"):
        (sample,) = image_samples(Image.new(mode, (3, 2)))
        assert isinstance(sample.image, np.ndarray)
        assert sample.image.shape == (2, 3, 3)


def test_an_opened_picture_looks_as_its_file_does(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 6, 4), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(noise[..., :3]).save(tmp_path / "turned.png", exif=turned)
    Image.fromarray(noise).save(tmp_path / "transparent.png")
    Image.fromarray(noise[..., 0].astype(np.uint16) * 256).save(tmp_path / "deep.png")
    for path in tmp_path.iterdir():
        with Image.open(path) as opened:
            (sample,) = image_samples(opened)
        assert isinstance(sample.image, np.ndarray)
        assert np.array_equal(sample.image, decode_image(path.read_bytes(), path.name))


def test_an_opened_picture_that_is_truncated_is_named(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    with Image.open(path) as opened, pytest.raises(UserError, match="image 0: damaged image"):
        image_samples(opened)


def test_texts() -> None:
    assert [sample.text for sample in text_samples("a")] == ["a"]
    assert [sample.text for sample in text_samples(["a", "b"])] == ["a", "b"]


def test_several_modalities_are_joined_one_to_one() -> None:
    pictures = list(np.zeros((2, 4, 4, 3), dtype=np.uint8))
    first, second = samples_of(("image", "text"), {"text": ["a", "b"], "image": pictures})
    assert (first.text, second.text) == ("a", "b")
    assert second.image is pictures[1]
    with pytest.raises(UserError, match=r"give equally many of each modality, found {'image': 2, 'text': 1}"):
        samples_of(("image", "text"), {"text": ["a"], "image": pictures})
    with pytest.raises(UserError, match="inputs of image; this task looks at image, text"):
        samples_of(("image", "text"), {"image": pictures})
    with pytest.raises(UserError, match="give a mapping of image, text to inputs"):
        samples_of(("image", "text"), pictures)
