"""What a user hands over is recognised."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from uniperceiver.data.media.decode import decode_image
from uniperceiver.errors import UserError
from uniperceiver.serving.inputs import clip_samples, image_samples, label_texts, modality_of, samples_of, text_samples


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
        (["a text", "b.mp4"], "text"),
        (b"bytes", "image"),
        ([b"bytes"], "image"),
        (Image.new("RGB", (2, 2)), "image"),
        (np.zeros((2, 2, 3)), "image"),
        ([torch.zeros(2, 2, 3)], "image"),
        (np.zeros((4, 2, 2, 3)), "video"),
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


def test_a_text_that_names_a_file_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert modality_of("picture") == "text"
    Path("picture").touch()
    assert modality_of("picture") == "image"


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


def test_texts_and_labels() -> None:
    assert [sample.text for sample in text_samples("a")] == ["a"]
    assert [sample.text for sample in text_samples(["a", "b"])] == ["a", "b"]
    assert label_texts(["a", ["b", "c"]]) == (("a",), ("b", "c"))
    with pytest.raises(UserError, match=r"give a list of texts, such as \['cat'\]"):
        label_texts("cat")


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
