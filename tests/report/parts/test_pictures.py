"""Pictures: small, moving where they moved, and never more than the page has room for."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tests.report.made_up import a_picture
from uniperceiver.report.parts import pictures
from uniperceiver.report.parts.pictures import fit_pictures


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_a_small_picture_comes_back_exactly() -> None:
    (picture,) = fit_pictures([(a_picture(64),)], 10**6)
    assert picture is not None
    assert picture.strip == ()
    np.testing.assert_array_equal(np.asarray(opened(picture.uri).convert("RGB")), a_picture(64))


def test_a_large_picture_is_shrunk_in_proportion() -> None:
    (picture,) = fit_pictures([(np.zeros((300, 900, 3), np.uint8),)], 10**6)
    assert picture is not None
    assert (picture.width, picture.height) == opened(picture.uri).size == (160, 53)


def test_an_extremely_narrow_picture_keeps_a_pixel() -> None:
    (picture,) = fit_pictures([(np.zeros((1, 5000, 3), np.uint8),)], 10**6)
    assert picture is not None
    assert (picture.width, picture.height) == (160, 1)


@pytest.mark.parametrize("webp", [True, False])
def test_a_clip_moves(monkeypatch: pytest.MonkeyPatch, webp: bool) -> None:
    monkeypatch.setattr(pictures.features, "check", lambda name: webp)
    frames = (*(a_picture(shift=2 * index) for index in range(7)), a_picture(30))
    (picture,) = fit_pictures([frames], 10**6)
    assert picture is not None
    assert opened(picture.uri).n_frames == 8
    assert len(picture.strip) == 5
    assert picture.uri.startswith(f"data:image/{'webp' if webp else 'png'};base64,")


def test_pictures_shrink_until_they_fit_and_the_last_are_left_out() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (6, 160, 160, 3)).astype(np.uint8)
    clips = [(frame_HWC,) for frame_HWC in noise]
    free = fit_pictures(clips, 10**9)
    sizes = [each.bytes for each in free if each]
    smaller = fit_pictures(clips, sum(sizes) // 3)
    assert all(each is not None and each.width < 160 for each in smaller)
    scarce = fit_pictures(clips, sizes[0] // 3)
    assert scarce[0] is not None
    assert scarce[-1] is None
    assert sum(each.bytes for each in scarce if each) <= sizes[0] // 3


def test_nothing_to_see_is_no_picture() -> None:
    assert fit_pictures([(), (np.zeros((0, 4, 3), np.uint8),)], 10**6) == [None, None]
