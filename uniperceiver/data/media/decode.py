"""ENCODED BYTES -> PIXELS of images, through Pillow. No file is opened here. Clips: `data/media/clips.py`.

Shape suffixes: H W pixels, C colour channels.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from PIL import Image, UnidentifiedImageError, features
from PIL.JpegImagePlugin import JpegImageFile

from uniperceiver.errors import BrokenSample, undecodable

MOST_PIXELS = 40_000_000
_JPEG = ("JPEG", "MPO")  # MPO: a JPEG with further pictures behind it, as telephones write depth and previews
_SCALES = (1, 2, 4, 8)  # by which a JPEG decoder can shrink while it decodes
_MOST_TIMES = 8  # the limit: of a JPEG, whose decoder may need a part of the memory of the whole picture
_MOST_TIMES_WHOLE = 2  # of HEIC, which is decoded whole and shrunk then: today's telephones take 50 megapixels

# Only these parsers see a user's bytes: Pillow knows forty more formats, some of which start other programs.
_IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_NOT_AN_IMAGE = "not a JPEG, PNG, WebP, BMP or GIF image"
_NEEDS_HEIC = "pip install pillow-heif"
# What Pillow raises on damaged bytes.
_PILLOW_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, RuntimeError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
_ORIENTATION = 0x0112
_ACROSS = (5, 6, 7, 8)  # orientations that lay a picture on its side
_STRIP = 2**22  # pixels
_TWELVE_BITS = 4095  # of cameras whose 12 bits are stored in 16: their upper 8 are 0 to 15
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


def missing_decoders() -> dict[str, str]:
    """What to do about files that cannot be decoded here, by suffix without dot."""
    missing = {} if find_spec("pillow_heif") else dict.fromkeys(("heic", "heif"), _NEEDS_HEIC)
    return missing | ({} if features.check("avif") else {"avif": "pip install 'pillow>=11.3'"})


def decode_image(data: bytes, name: str, at_least: int | None = None, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """The upright RGB pixels of an encoded image, (H, W, 3) uint8: JPEG, PNG, WebP, BMP, AVIF, HEIC, or the first
    picture of a GIF or TIFF.

    EXIF orientation is applied; transparency shows white, as on a page; 16 bits keep their upper 8. `at_least`
    lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, as long as both sides keep that many pixels.

    Args:
        most_pixels: a JPEG with up to 8 times, or a HEIC with up to 2 times as many is given at 1/2, 1/4 or 1/8 of its
            size.

    Raises:
        BrokenSample: not such an image, truncated, or with more pixels (refused before decoding).
    """
    try:
        with _opened(data, name) as image:
            times = _MOST_TIMES if image.format in _JPEG else _MOST_TIMES_WHOLE if image.format == "HEIF" else 1
            refuse_giants(image.width, image.height, name, most_pixels, times)
            size = image.width, image.height
            scale = next(scale for scale in _SCALES if (size[0] // scale) * (size[1] // scale) <= most_pixels)
            if at_least is not None:
                scale = max(scale, *(scale for scale in _SCALES if min(size) // scale >= at_least or scale == 1))
            if scale > 1 and image.format == "HEIF":
                return upright_rgb(image.reduce(scale), name)
            if scale > 1:
                image.draft("", (size[0] // scale, size[1] // scale))
            return upright_rgb(image, name)
    except UnidentifiedImageError:
        raise BrokenSample(name, undecodable(data, _NOT_AN_IMAGE)) from None
    except Image.DecompressionBombError:
        raise BrokenSample(name, f"more than {MOST_PIXELS // 10**6} megapixels") from None
    except _PILLOW_ERRORS as error:
        raise BrokenSample(name, f"damaged image ({error or type(error).__name__})") from None


@dataclass(frozen=True, kw_only=True)
class StoredSize:
    """What the header of an image says of its pixels."""

    height: int
    width: int
    orientation: int  # of EXIF, 1 to 8

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width of the picture as it is shown."""
        return (self.width, self.height) if self.orientation in _ACROSS else (self.height, self.width)


def stored_size(data: bytes, name: str) -> StoredSize:
    """The size of an encoded image, without decoding it.

    Raises:
        BrokenSample: not an image that `decode_image` takes.
    """
    try:
        with _opened(data, name) as image:
            return StoredSize(height=image.height, width=image.width, orientation=_orientation(image))
    except UnidentifiedImageError:
        raise BrokenSample(name, undecodable(data, _NOT_AN_IMAGE)) from None
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


def refuse_giants(width: int, height: int, name: str, most_pixels: int = MOST_PIXELS, times: int = 1) -> None:
    """What a header announces must be possible, and no more than so many pixels.

    Args:
        times: that the limit may be exceeded, as the decoder shrinks.

    Raises:
        BrokenSample: it is not.
    """
    if not width * height:
        raise BrokenSample(name, f"{width} x {height}: no pixels")
    if width * height > times * most_pixels:
        above = f" even {times} times" if times > 1 else ""
        mend = "raise data.megapixels" + ("" if times > 1 else ", or store it as JPEG, which is decoded smaller")
        raise BrokenSample(name, f"{width} x {height}:{above} more than {most_pixels / 10**6:g} megapixels; {mend}")


def _opened(data: bytes, name: str) -> Image.Image:
    """The image with its header read."""
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS and b"avif" not in data[8:64]:
        return _opened_heic(data, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
        try:
            return Image.open(io.BytesIO(data), formats=_IMAGE_FORMATS)
        except Image.DecompressionBombError:
            if data[:2] != b"\xff\xd8":
                raise
            return JpegImageFile(io.BytesIO(data))  # Pillow's own limit does not know that it is decoded smaller


def _opened_heic(data: bytes, name: str) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise BrokenSample(name, f"a HEIC image, which needs a package of its own: {_NEEDS_HEIC}") from None
    image: Image.Image = HeifImageFile(io.BytesIO(data))
    return image


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except (*_PILLOW_ERRORS, Warning):  # a damaged EXIF block says nothing about the pixels
        return 1


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":
        wide_HW = np.asarray(image)
        grey_HW = _eight_bits(wide_HW, name, image.mode)
        if isinstance(clear := image.info.get("transparency"), int):  # of a PNG: the grey that shows the page
            grey_HW[wide_HW == clear] = 255
        return np.repeat(grey_HW[:, :, None], 3, axis=2)
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image.convert("RGBA"))
    rgb = image if image.mode == "RGB" else image.convert("RGB")  # converting would copy, too
    x_HWC = np.empty((rgb.height, rgb.width, 3), dtype=np.uint8)
    rows = max(1, _STRIP // max(1, rgb.width))
    for top in range(0, rgb.height, rows):  # handing over the whole of a giant takes its memory three times more
        x_HWC[top : top + rows] = np.asarray(rgb.crop((0, top, rgb.width, min(top + rows, rgb.height))))
    return x_HWC


def _eight_bits(grey_HW: np.ndarray, name: str, mode: str) -> np.ndarray:
    """Grey of more than 8 bits: whole numbers from 0 to 65535, or floats from 0 to 1."""
    least, most = grey_HW.min(), grey_HW.max()
    if mode == "F":
        if not (least >= 0 and most <= 1):  # also NaN
            raise BrokenSample(name, f"values from {least:g} to {most:g} in mode F; scale them to 0 to 1, or to 8 bits")
        return (grey_HW * 255).round().astype(np.uint8)
    if least < 0 or most > 65535 or 0 < most <= _TWELVE_BITS:
        black = "would all be black" if most < 256 else "would be nearly black, as 12 bits in 16 are"
        reason = black if least >= 0 and most <= _TWELVE_BITS else "do not fit into 16 bits"
        mend = "scale them to 0 to 65535" if reason == black else "scale them"
        raise BrokenSample(name, f"values from {least} to {most} in mode {mode} {reason}; {mend}, or save 8 bits")
    return (grey_HW >> 8).astype(np.uint8)
