"""Clips that tests encode themselves: their frames tell which they are."""

import io
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

av = pytest.importorskip("av")


def clip_bytes(frames: int = 12, kind: str = "mp4", codec: str = "libx264") -> bytes:
    """A clip whose frames are brighter and brighter: frame i is about 16 i + 30."""
    file = io.BytesIO()
    write_clip(file, frames, kind, codec)
    return file.getvalue()


def write_clip(file: io.BytesIO | str, frames: int, kind: str, codec: str, **options: str) -> None:
    """The same into a file."""
    with av.open(file, "w", format=kind, options=options) as container:
        stream = container.add_stream(codec, rate=Fraction(8))
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for index in range(frames):
            pixels_HWC = np.full((32, 48, 3), 16 * index + 30, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels_HWC, format="rgb24")))
        container.mux(stream.encode())


def which(clip_FHWC: np.ndarray) -> list[int]:
    """The frames' indices, by their brightness."""
    return [round((float(frame.mean()) - 30) / 16) for frame in clip_FHWC]


def fixed(*indices: int, sees: list[int] | None = None) -> Callable[[int], np.ndarray]:
    """A choice that notes the number of frames."""

    def choose(count: int) -> np.ndarray:
        if sees is not None:
            sees.append(count)
        return np.array(indices)

    return choose


def motion_jpeg(*sizes: tuple[int, int]) -> bytes:
    """A clip whose frames have these widths and heights, whatever its header says."""
    file = io.BytesIO()
    with av.open(file, "w", format="avi") as container:
        stream = container.add_stream("mjpeg", rate=Fraction(8))
        stream.width, stream.height, stream.pix_fmt = *sizes[0], "yuvj420p"
        for index, size in enumerate(sizes):
            picture = io.BytesIO()
            Image.new("RGB", size, "red").save(picture, "JPEG")
            packet = av.Packet(picture.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, index, index, Fraction(1, 8)
            container.mux(packet)
    return file.getvalue()
