"""SMALLER FILES: images and clips encoded anew, so that reading them costs what training needs and no more.

Shape suffixes: H W pixels, C colours.
"""

import io
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from uniperceiver.data.media.clips import clip_extent, clip_frames, refuse_without_av
from uniperceiver.data.media.decode import MOST_PIXELS, decode_image

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

JPEG_QUALITY = 90
_RATE = Fraction(25)  # frames per second that a clip is written with: frames are chosen by number, never by time
_H264 = {"crf": "18", "preset": "veryfast", "tune": "fastdecode"}
_MPEG4 = {"qscale": "3"}  # where FFmpeg was built without x264


def small_image(image: bytes | np.ndarray, side: int, name: str, most_pixels: int = MOST_PIXELS) -> tuple[str, bytes]:
    """An image whose shorter side has at most `side` pixels: file type and bytes.

    A JPEG, PNG or WebP that is small enough stays as it is, other small pictures become PNG, all else JPEG.

    Raises:
        BrokenSample: it cannot be decoded.
    """
    # At twice the size, so that what a JPEG decoder leaves out is not what is to be seen.
    x_HWC = decode_image(image, name, 2 * side, most_pixels) if isinstance(image, bytes) else image
    height, width = x_HWC.shape[:2]
    if min(height, width) <= side:
        kind = _image_kind(image) if isinstance(image, bytes) else None
        return (kind, image) if kind is not None and isinstance(image, bytes) else ("png", _encoded(x_HWC, "PNG"))
    size = _shrunk(width, height, side)
    small = Image.fromarray(x_HWC).resize(size, Image.Resampling.BICUBIC)
    return "jpg", _encoded(np.asarray(small), "JPEG", quality=JPEG_QUALITY)


def small_clip(clip: bytes | np.ndarray, side: int, name: str, most_pixels: int = MOST_PIXELS) -> tuple[str, bytes]:
    """A clip whose shorter side has at most `side` pixels, with all its frames: file type and bytes.

    An MP4, WebM or AVI that is small enough stays as it is; all else becomes MP4 (H.264).

    Raises:
        BrokenSample: it cannot be decoded.
    """
    if isinstance(clip, bytes):
        extent = clip_extent(clip, name, most_pixels)  # every frame is decoded, also where the clip stays as it is
        kind = _clip_kind(clip)
        if kind is not None and min(extent.height, extent.width) <= side:
            return kind, clip
        return "mp4", _encoded_clip(clip_frames(clip, name, most_pixels), side)
    return "mp4", _encoded_clip(clip, side)


def _shrunk(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height with the same aspect, the shorter one `side`; what is smaller is not enlarged."""
    shorter = min(width, height)
    if shorter <= side:
        return width, height
    return max(side, round(width * side / shorter)), max(side, round(height * side / shorter))


def _encoded(x_HWC: np.ndarray, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(x_HWC).save(file, kind, **options)
    return file.getvalue()


def _image_kind(data: bytes) -> str | None:
    if data[:2] == b"\xff\xd8":
        return "jpg"
    if data[:4] == b"\x89PNG":
        return "png"
    return "webp" if data[:4] == b"RIFF" else None


def _clip_kind(data: bytes) -> str | None:
    if data[4:8] == b"ftyp":
        return "mp4"
    if data[:4] == b"RIFF":
        return "avi"
    return "webm" if b"webm" in data[:64] else None


def _encoded_clip(frames: Iterable[np.ndarray], side: int) -> bytes:
    """The frames as an MP4, each the shorter side `side` or smaller; odd sides gain a pixel, as H.264 wants it."""
    refuse_without_av()
    import av

    rest: Iterator[np.ndarray] = iter(frames)
    first_HWC = next(rest)
    width, height = _shrunk(first_HWC.shape[1], first_HWC.shape[0], side)
    size = (width + width % 2, height + height % 2)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = _stream(container, *size)
        for number, x_HWC in enumerate(chain([first_HWC], rest)):
            small_HWC = np.array(Image.fromarray(x_HWC).resize(size, Image.Resampling.BICUBIC))
            frame = av.VideoFrame.from_ndarray(small_HWC, format="rgb24")
            frame.pts, frame.time_base = number, 1 / _RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def _stream(container: "OutputContainer", width: int, height: int) -> "VideoStream":
    from av.codec import codecs_available
    from av.video.stream import VideoStream

    codec, options = ("libx264", _H264) if "libx264" in codecs_available else ("mpeg4", _MPEG4)
    stream = container.add_stream(codec, rate=_RATE, options=dict(options))
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.thread_count = 1  # the processes that write shards are the parallelism
    return stream


# Modality -> what makes (value, pixels of the shorter side, sample's name, most pixels to decode) the file type and
# bytes that are stored.
RECODERS: dict[str, Callable[[bytes | np.ndarray, int, str, int], tuple[str, bytes]]] = {
    "image": small_image,
    "video": small_clip,
}
