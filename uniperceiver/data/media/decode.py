"""ENCODED BYTES -> PIXELS of images, through Pillow. No file is opened here. Clips: `data/media/clips.py`.

Shape suffixes: H W pixels, C colour channels.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, UnidentifiedImageError

from uniperceiver.errors import BrokenSample

MOST_PIXELS = 40_000_000

# Only these parsers see a user's bytes: Pillow knows forty more formats, some of which start other programs.
_IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
# What Pillow raises on damaged bytes.
_PILLOW_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, RuntimeError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
_ORIENTATION = 0x0112
# EXIF orientation -> the turn that makes an (H, W, C) array upright.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda x_HWC: x_HWC[:, ::-1],
    3: lambda x_HWC: x_HWC[::-1, ::-1],
    4: lambda x_HWC: x_HWC[::-1],
    5: lambda x_HWC: x_HWC.swapaxes(0, 1),
    6: lambda x_HWC: x_HWC.swapaxes(0, 1)[:, ::-1],
    7: lambda x_HWC: x_HWC.swapaxes(0, 1)[::-1, ::-1],
    8: lambda x_HWC: x_HWC.swapaxes(0, 1)[::-1],
}


def decode_image(data: bytes, name: str, at_least: int | None = None) -> np.ndarray:
    """The upright RGB pixels of an encoded image, (H, W, 3) uint8: JPEG, PNG, WebP, BMP, or a GIF's first frame.

    EXIF orientation is applied; transparency shows white, as on a page; 16 bits keep their upper 8. `at_least`
    lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, as long as both sides keep that many pixels.

    Raises:
        BrokenSample: not such an image, truncated, or more than 40 megapixels (refused before decoding).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            opened = Image.open(io.BytesIO(data), formats=_IMAGE_FORMATS)
        with opened as image:
            refuse_giants(image.width, image.height, name)
            if at_least is not None:
                image.draft("", (at_least, at_least))
            return upright_rgb(image, name)
    except UnidentifiedImageError:
        raise BrokenSample(name, _not_an_image(data)) from None
    except Image.DecompressionBombError:
        raise BrokenSample(name, f"more than {MOST_PIXELS // 10**6} megapixels") from None
    except _PILLOW_ERRORS as error:
        raise BrokenSample(name, f"damaged image ({error or type(error).__name__})") from None


def upright_rgb(image: Image.Image, name: str) -> np.ndarray:
    """The pixels of an opened image as `decode_image` gives them, (H, W, 3) uint8.

    Raises:
        BrokenSample: its values have no range that could be shown, as those of modes I and F may.
    """
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    x_HWC = _to_rgb(image, name)
    return np.ascontiguousarray(turn(x_HWC)) if turn else x_HWC


def refuse_giants(width: int, height: int, name: str) -> None:
    """What a header announces must be possible, and no more than 40 megapixels.

    Raises:
        BrokenSample: it is not.
    """
    if not 0 < width * height <= MOST_PIXELS:
        limit = f"more than {MOST_PIXELS // 10**6} megapixels" if width * height else "no pixels"
        raise BrokenSample(name, f"{width} x {height}: {limit}")


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except (*_PILLOW_ERRORS, Warning):  # a damaged EXIF block says nothing about the pixels
        return 1


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":
        grey_HW = _eight_bits(np.asarray(image), name, image.mode)
        return np.repeat(grey_HW[:, :, None], 3, axis=2)
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))  # converting would copy, too


def _eight_bits(grey_HW: np.ndarray, name: str, mode: str) -> np.ndarray:
    """Grey of more than 8 bits: whole numbers from 0 to 65535, or floats from 0 to 1."""
    least, most = grey_HW.min(), grey_HW.max()
    if mode == "F":
        if not (least >= 0 and most <= 1):  # also NaN
            raise BrokenSample(name, f"values from {least:g} to {most:g} in mode F; scale them to 0 to 1, or to 8 bits")
        return (grey_HW * 255).round().astype(np.uint8)
    if least < 0 or most > 65535 or 0 < most < 256:
        reason = "would all be black" if 0 < most < 256 else "do not fit into 16 bits"
        raise BrokenSample(name, f"values from {least} to {most} in mode {mode} {reason}; scale them, or save 8 bits")
    return (grey_HW >> 8).astype(np.uint8)


def _not_an_image(data: bytes) -> str:
    if not data:
        return "the file is empty"
    hint = "; it looks like a web page" if data.lstrip()[:1] == b"<" else ""
    return f"not a JPEG, PNG, WebP, BMP or GIF image{hint}"
