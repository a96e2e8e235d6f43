"""ENCODED BYTES -> FRAMES of clips, through PyAV. No file is opened here.

Shape suffixes: F frames, H W pixels, C colour channels.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from uniperceiver.data.media.containers import avi_ends_early, matroska_ends_early
from uniperceiver.data.media.decode import MOST_PIXELS, refuse_giants
from uniperceiver.errors import POINTER, BrokenSample, UserError, is_pointer

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.reformatter import VideoReformatter

# Only these of FFmpeg's formats see a user's bytes: its playlists would open other files and addresses.
_CLIP_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm"
_NO_FRAMES, _CHANGES, _TRUNCATED = "no frames", "the size of the frames changes", "the clip is truncated"


def decode_clip(
    data: bytes, name: str, choose: Callable[[int], np.ndarray], most_pixels: int = MOST_PIXELS
) -> np.ndarray:
    """The chosen frames of an encoded clip (MP4, MOV, AVI, WebM, MKV) as upright RGB, (F, H, W, 3) uint8.

    `choose(number of frames)` gives the sorted indices of the F frames; repeats are fine. It is called again where
    the container announces more frames than it holds, so it must depend on that number alone.

    Raises:
        BrokenSample: not such a clip, truncated, without frames, or frames of more pixels than that.
        UserError: the package av is missing.
    """
    with _opened(data, name, most_pixels) as packets:
        count = sum(packet.size > 0 and not packet.is_discard for packet in packets)
        chosen_F = _choose(choose, count, name)
        frames, decoded = _decode_frames(packets, chosen_F)
        if decoded <= chosen_F[-1]:
            packets[0].stream.codec_context.flush_buffers()
            chosen_F = _choose(choose, decoded, name)
            frames, _ = _decode_frames(packets, chosen_F)
    if len({x_HWC.shape for x_HWC in frames.values()}) != 1:
        raise BrokenSample(name, _CHANGES)
    return np.stack([frames[index] for index in chosen_F.tolist()])


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How large an image or clip is."""

    frames: int | None  # None: of an image
    height: int  # upright, in pixels
    width: int


def clip_extent(data: bytes, name: str, most_pixels: int = MOST_PIXELS) -> Extent:
    """Decode every frame of a clip, keep none.

    Raises:
        BrokenSample: as `decode_clip`, also where only frames are damaged that it would not choose.
    """
    frames, sizes = 0, set[tuple[int, int]]()
    with _opened(data, name, most_pixels) as packets:
        for frame in _decoded(packets):
            transposed, _, _ = _orientation(frame)
            sizes.add((frame.width, frame.height) if transposed else (frame.height, frame.width))
            frames += 1
    if len(sizes) != 1:
        raise BrokenSample(name, _CHANGES if sizes else _NO_FRAMES)
    height, width = sizes.pop()
    return Extent(frames=frames, height=height, width=width)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a clip's container holds, before anything is decoded."""

    frames: int
    seconds: float  # 0 where the container has no times
    pixels: int  # of a frame, as the container announces them


def stored_clip(data: bytes, name: str, most_pixels: int = MOST_PIXELS) -> Stored:
    """Count the frames of a clip without decoding them.

    Raises:
        BrokenSample: not such a clip, truncated, or frames of more pixels than that.
    """
    with _opened(data, name, most_pixels) as packets:
        frames = [packet for packet in packets if packet.size > 0 and not packet.is_discard]
        ends = [(packet.pts + (packet.duration or 0)) * packet.time_base for packet in frames if packet.pts is not None]
        codec = packets[0].stream.codec_context
        pixels = codec.width * codec.height
        return Stored(frames=len(frames), seconds=float(max(ends, default=0)), pixels=pixels)


def refuse_without_av() -> None:
    """Refuse clips where nothing can decode them.

    Raises:
        UserError: the package av is missing.
    """
    if find_spec("av") is None:
        raise UserError(
            "clips and sounds are decoded with the package av, which is missing; pip install av, or "
            "'uniperceiver[video]'"
        )


def clip_frames(data: bytes, name: str, most_pixels: int = MOST_PIXELS) -> Iterator[np.ndarray]:
    """All frames of a clip as upright RGB, (H, W, 3) uint8, one after the other.

    Raises:
        BrokenSample: as `clip_extent`, when the damaged frame's turn comes.
    """
    refuse_without_av()
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()
    with _opened(data, name, most_pixels) as packets:
        for frame in _decoded(packets):
            yield _upright_frame(frame, reformatter)


@contextmanager
def _opened(data: bytes, name: str, most_pixels: int) -> Iterator[list["Packet"]]:
    """The packets of a clip's first video stream; what goes wrong with them is a BrokenSample."""
    refuse_without_av()
    import av

    if matroska_ends_early(data) or avi_ends_early(data):
        raise BrokenSample(name, _TRUNCATED)
    try:
        # Of any frame, refused before there is memory for it.
        options = {"format_whitelist": _CLIP_FORMATS, "max_pixels": str(most_pixels)}
        with av.open(io.BytesIO(data), mode="r", metadata_errors="replace", options=options) as container:
            yield _packets(container, name, most_pixels)
    except av.error.FFmpegError as error:
        reason = "the file is empty" if not data else f"damaged or not a clip ({error.strerror})"
        raise BrokenSample(name, POINTER if is_pointer(data) else reason) from None


def _packets(container: "InputContainer", name: str, most_pixels: int) -> list["Packet"]:
    """The packets of the first video stream. They are counted as frames: headers often omit the number or err."""
    from av.stream import Disposition

    streams = container.streams.video
    stream = next((stream for stream in streams if not stream.disposition & Disposition.attached_pic), None)
    if stream is None:
        raise BrokenSample(name, "no video stream but a cover picture" if streams else "no video stream")
    if stream.codec_context is None:
        raise BrokenSample(name, "a video stream that no decoder knows")
    stream.codec_context.thread_count = 1  # the loader's processes are the parallelism
    stream.codec_context.options = {"max_pixels": str(most_pixels)}  # a later frame may be larger than the header says
    width, height = stream.codec_context.width, stream.codec_context.height
    if not width * height:  # also where FFmpeg looked for them in a frame that it was told to refuse
        most = f"{most_pixels / 10**6:g} megapixels"
        raise BrokenSample(name, f"its frames have no size, or more than {most}; raise data.megapixels")
    refuse_giants(width, height, name, most_pixels)
    packets = list(container.demux(stream))
    if any(packet.is_corrupt for packet in packets):
        raise BrokenSample(name, _TRUNCATED)
    return packets


def _choose(choose: Callable[[int], np.ndarray], count: int, name: str) -> np.ndarray:
    if not count:
        raise BrokenSample(name, _NO_FRAMES)
    chosen_F = np.asarray(choose(count))
    if not (chosen_F.size and chosen_F[0] >= 0 and chosen_F[-1] < count and (np.diff(chosen_F) >= 0).all()):
        raise ValueError(f"choose() must give sorted indices below {count}, not {chosen_F.tolist()}")
    return chosen_F


def _decode_frames(packets: list["Packet"], chosen_F: np.ndarray) -> tuple[dict[int, np.ndarray], int]:
    """The chosen frames by index, each (H, W, 3) uint8, and how many frames were decoded until the last of them."""
    from av.video.reformatter import VideoReformatter

    # One for all frames, and without threads: PyAV would build tables and start threads anew for each frame.
    reformatter = VideoReformatter()
    chosen, last, decoded = set(chosen_F.tolist()), int(chosen_F[-1]), 0
    frames: dict[int, np.ndarray] = {}
    for frame in _decoded(packets):
        if decoded in chosen:
            frames[decoded] = _upright_frame(frame, reformatter)
        decoded += 1
        if decoded > last:
            break
    return frames, decoded


def _decoded(packets: list["Packet"]) -> Iterator["VideoFrame"]:
    for packet in packets:
        yield from packet.decode()


def _upright_frame(frame: "VideoFrame", reformatter: "VideoReformatter") -> np.ndarray:
    x_HWC = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
    transposed, right_to_left, upside_down = _orientation(frame)
    x_HWC = x_HWC.swapaxes(0, 1) if transposed else x_HWC
    return x_HWC[:: -1 if upside_down else 1, :: -1 if right_to_left else 1]


def _orientation(frame: "VideoFrame") -> tuple[bool, bool, bool]:
    """Whether columns become rows, and whether it is turned over then from left to right, and from top to bottom.

    PyAV's `rotation` cannot tell a mirror, as of cameras that look at who holds them, from half a turn.
    """
    header: Any = frame.side_data.get("DISPLAYMATRIX")
    if header is None:
        return False, False, False
    # A pixel is shown at (x, y) @ matrix: 16 bits behind the point, and only quarters of a turn are done.
    (xx, xy, _), (yx, yy, _), _ = np.frombuffer(bytes(header), dtype=np.int32).reshape(3, 3).tolist()
    if abs(xx) + abs(yy) >= abs(xy) + abs(yx):
        return False, xx < 0, yy < 0
    return True, yx < 0, xy < 0
