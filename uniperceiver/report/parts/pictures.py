"""Pictures inside the page: small WebP files as data URIs."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, features

from uniperceiver.report.parts.numbers import evenly

# Longest side, and up to which side a picture is kept exactly: flat colours of small pictures smear otherwise.
_SIZES = ((160, 96), (120, 0), (88, 0), (64, 0))
_MOST_FRAMES, _STRIP_FRAMES, _STRIP_SIDE = 12, 5, 72
_LOOP_MS = 1600


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Holds an image, or a clip that moves together with its frames side by side."""

    uri: str  # an image, or an animation
    width: int
    height: int
    strip: tuple[str, ...] = ()  # frames of a clip, evenly chosen; none for an image

    @property
    def bytes(self) -> int:
        """What it adds to the page."""
        return len(self.uri) + sum(map(len, self.strip))


def fit_pictures(
    clips: Sequence[tuple[np.ndarray, ...]], budget: int, factors: Sequence[int] | None = None
) -> list[Picture | None]:
    """Make a picture of every clip or image, all within `budget` bytes; None where there is nothing to see.

    All become smaller until they fit; if even the smallest do not, the last ones are left out.

    Args:
        factors: how many times larger than usual each of them may be; None: none is.
    """
    factors = [1] * len(clips) if factors is None else factors
    pictures: list[Picture | None] = []
    for side, exact in _SIZES:
        pictures = [_picture(frames, factor * side, exact) for frames, factor in zip(clips, factors, strict=True)]
        if sum(picture.bytes for picture in pictures if picture) <= budget:
            return pictures
    left = budget
    for index, picture in enumerate(pictures):
        left -= picture.bytes if picture else 0
        if left < 0:
            pictures[index] = None
    return pictures


def _picture(frames: tuple[np.ndarray, ...], side: int, exact: int) -> Picture | None:
    images = [Image.fromarray(frame_HWC) for frame_HWC in frames if frame_HWC.size]
    if not images:
        return None
    images = [image if image.size == images[0].size else image.resize(images[0].size) for image in images]
    shown = [_shrunk(image, side) for image in evenly(images, _MOST_FRAMES)]
    frame_side = min(side, _STRIP_SIDE)
    strip = [_shrunk(image, frame_side) for image in evenly(images, _STRIP_FRAMES)] if len(images) > 1 else []
    lossless = max(images[0].size) <= exact
    return Picture(
        uri=_data_uri(shown, lossless),
        width=shown[0].width,
        height=shown[0].height,
        strip=tuple(_data_uri([image], lossless) for image in strip),
    )


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    factor = min(1.0, side / max(image.size))
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def _data_uri(images: list[Image.Image], lossless: bool) -> str:
    kind = "WEBP" if features.check("webp") else "PNG"  # some builds of Pillow come without WebP
    quality = {"lossless": lossless, "quality": 80, "method": 2} if kind == "WEBP" else {"optimize": True}
    duration = min(400, max(80, _LOOP_MS // len(images)))
    moving = {"save_all": True, "append_images": images[1:], "duration": duration, "loop": 0} if images[1:] else {}
    buffer = io.BytesIO()
    images[0].save(buffer, kind, **quality, **moving)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
