"""ENCODED BYTES -> PIXELS: images through Pillow, clips through PyAV. No file is opened here.

Shape suffixes: T frames, H W pixels, C colour channels.
"""

import io
import struct
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from uniperceiver.errors import BrokenSample, UserError

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer

MOST_PIXELS = 40_000_000

# Only these parsers see a user's bytes: Pillow knows forty more formats, some of which start other programs.
_IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
# Likewise for FFmpeg, whose playlist formats would open other files and addresses.
_CLIP_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm"
# What Pillow raises on damaged bytes.
_PILLOW_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, RuntimeError,
    struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning,
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
        with Image.open(io.BytesIO(data), formats=_IMAGE_FORMATS) as image:
            _refuse_giants(image.width, image.height, name)
            if at_least is not None:
                image.draft("", (at_least, at_least))
            return upright_rgb(image)
    except UnidentifiedImageError:
        raise BrokenSample(name, _not_an_image(data)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BrokenSample(name, f"more than {MOST_PIXELS // 10**6} megapixels") from None
    except _PILLOW_ERRORS as error:
        raise BrokenSample(name, f"damaged image ({error or type(error).__name__})") from None


def upright_rgb(image: Image.Image) -> np.ndarray:
    """The pixels of an opened image as `decode_image` gives them, (H, W, 3) uint8."""
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    x_HWC = _to_rgb(image)
    return np.ascontiguousarray(turn(x_HWC)) if turn else x_HWC


def decode_clip(data: bytes, name: str, choose: Callable[[int], np.ndarray]) -> np.ndarray:
    """The chosen frames of an encoded clip (MP4, MOV, AVI, WebM, MKV) as upright RGB, (T, H, W, 3) uint8.

    `choose(number of frames)` gives the sorted indices of the T frames; repeats are fine. It is called again where
    the container announces more frames than it holds, so it must depend on that number alone.

    Raises:
        BrokenSample: not such a clip, truncated, without frames, or frames of more than 40 megapixels.
        UserError: the package av is missing.
    """
    try:
        import av
    except ImportError:
        raise UserError("clips are decoded with the package av, which is missing; pip install av") from None
    try:
        with av.open(
            io.BytesIO(data), mode="r", metadata_errors="replace", options={"format_whitelist": _CLIP_FORMATS}
        ) as container:
            packets = _packets(container, name)
            count = sum(packet.size > 0 and not packet.is_discard for packet in packets)
            chosen_T = _choose(choose, count, name)
            frames, decoded = _decode_frames(packets, chosen_T)
            if decoded <= chosen_T[-1]:
                packets[0].stream.codec_context.flush_buffers()
                chosen_T = _choose(choose, decoded, name)
                frames, _ = _decode_frames(packets, chosen_T)
    except av.error.FFmpegError as error:
        reason = "the file is empty" if not data else f"damaged or not a clip ({error.strerror})"
        raise BrokenSample(name, reason) from None
    if len({x_HWC.shape for x_HWC in frames.values()}) != 1:
        raise BrokenSample(name, "the size of the frames changes")
    return np.stack([frames[index] for index in chosen_T.tolist()])


def _refuse_giants(width: int, height: int, name: str) -> None:
    if not 0 < width * height <= MOST_PIXELS:
        limit = f"more than {MOST_PIXELS // 10**6} megapixels" if width * height else "no pixels"
        raise BrokenSample(name, f"{width} x {height}: {limit}")


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except (*_PILLOW_ERRORS, Warning):  # a damaged EXIF block says nothing about the pixels
        return 1


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        grey_HW = (np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey_HW[:, :, None], 3, axis=2)
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _not_an_image(data: bytes) -> str:
    if not data:
        return "the file is empty"
    hint = "; it looks like a web page" if data.lstrip()[:1] == b"<" else ""
    return f"not a JPEG, PNG, WebP, BMP or GIF image{hint}"


def _packets(container: "InputContainer", name: str) -> list["Packet"]:
    """The packets of the first video stream. They are counted as frames: headers often omit the number or err."""
    if not container.streams.video:
        raise BrokenSample(name, "no video stream")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise BrokenSample(name, "a video stream that no decoder knows")
    stream.codec_context.thread_count = 1  # the loader's processes are the parallelism
    _refuse_giants(stream.codec_context.width, stream.codec_context.height, name)
    packets = list(container.demux(stream))
    if any(packet.is_corrupt for packet in packets):
        raise BrokenSample(name, "the clip is truncated")
    return packets


def _choose(choose: Callable[[int], np.ndarray], count: int, name: str) -> np.ndarray:
    if not count:
        raise BrokenSample(name, "no frames")
    chosen_T = np.asarray(choose(count))
    if not (chosen_T.size and chosen_T[0] >= 0 and chosen_T[-1] < count and (np.diff(chosen_T) >= 0).all()):
        raise ValueError(f"choose() must give sorted indices below {count}, not {chosen_T.tolist()}")
    return chosen_T


def _decode_frames(packets: list["Packet"], chosen_T: np.ndarray) -> tuple[dict[int, np.ndarray], int]:
    """The chosen frames by index, each (H, W, 3) uint8, and how many frames were decoded until the last of them."""
    from av.video.reformatter import VideoReformatter

    # One for all frames, and without threads: PyAV would build tables and start threads anew for each frame.
    reformatter = VideoReformatter()
    wanted, last, decoded = set(chosen_T.tolist()), int(chosen_T[-1]), 0
    frames: dict[int, np.ndarray] = {}
    for packet in packets:
        for frame in packet.decode():
            if decoded in wanted:
                x_HWC = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
                frames[decoded] = np.rot90(x_HWC, k=round(frame.rotation / 90))
            decoded += 1
        if decoded > last:
            break
    return frames, decoded
