"""Sounds for tests: samples of known form, as WAV and in whatever PyAV encodes."""

import io
import math
import struct
import wave
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np


def tone(seconds: float = 1.0, rate: int = 16_000, hertz: float = 440.0, loud: float = 0.5) -> np.ndarray:
    """A sine, (L,) float32."""
    times_L = np.arange(round(seconds * rate)) / rate
    return (loud * np.sin(2 * math.pi * hertz * times_L)).astype(np.float32)


def click(at: float = 0.5, seconds: float = 1.0, rate: int = 16_000) -> np.ndarray:
    """Silence but for a short burst at that second, (L,) float32."""
    x_L = np.zeros(round(seconds * rate), dtype=np.float32)
    start = round(at * rate)
    x_L[start : start + 16] = 0.9
    return x_L


def wave_bytes(x: np.ndarray, rate: int = 16_000) -> bytes:
    """A WAV file of 16 bits; (L,) or (L, channels), floats."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1 if x.ndim == 1 else x.shape[1])
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes((x * 32768).round().clip(-32768, 32767).astype("<i2").tobytes())
    return file.getvalue()


def riff(
    payload: bytes, form: int = 1, channels: int = 1, rate: int = 16_000, bits: int = 16, claimed: int | None = None
) -> bytes:
    """A WAV file byte by byte, also of forms and lies that no writer makes; `claimed` is the size in its header."""
    block = channels * bits // 8
    header = struct.pack(
        "<HHIIHH", form, channels, rate & 0xFFFFFFFF, (rate * block) & 0xFFFFFFFF, block & 0xFFFF, bits
    )
    size = len(payload) if claimed is None else claimed
    data = b"fmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", size) + payload
    total = 4 + len(data) if claimed is None else min(0xFFFFFFFF, claimed + 36)
    return b"RIFF" + struct.pack("<I", total) + b"WAVE" + data


def encoded(
    x: np.ndarray,
    rate: int = 16_000,
    kind: str = "flac",
    codec: str = "flac",
    options: dict[str, str] | None = None,
    clip_frames: int = 0,
    tracks: int = 1,
) -> bytes:
    """A sound, (L,) or (L, channels) floats, in a container of that kind, beside a moving picture if frames are asked
    for; the second track has half the samples' values."""
    file = io.BytesIO()
    layout = "mono" if x.ndim == 1 else {2: "stereo", 6: "5.1"}[x.shape[1]]
    with av.open(file, "w", format=kind, options=options or {}) as container:
        pictures = _pictures(container, clip_frames) if clip_frames else ()
        streams = [container.add_stream(codec, rate=rate, layout=layout) for _ in range(tracks)]
        for packet in pictures:
            container.mux(packet)
        for number, stream in enumerate(streams):
            assert isinstance(stream, av.AudioStream)
            samples = (x if x.ndim == 2 else x[:, None]).T / (1 + number)
            for start in range(0, samples.shape[1], 1024):
                part = np.ascontiguousarray(samples[:, start : start + 1024], dtype=np.float32)
                sound = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
                sound.sample_rate, sound.pts, sound.time_base = rate, start, Fraction(1, rate)
                container.mux(stream.encode(sound))
            container.mux(stream.encode())
    return file.getvalue()


def _pictures(container: "av.container.OutputContainer", frames: int) -> Iterator[list[av.Packet]]:
    """A moving picture, ten frames a second; its stream is added at once."""
    stream = container.add_stream("mpeg4", rate=Fraction(10))
    stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"

    def packets() -> Iterator[list[av.Packet]]:
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 16 * index % 256, dtype=np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            yield stream.encode(frame)
        yield stream.encode()

    return packets()
