"""From files to log-mel: our reader against a bare loop of the same decoder and NumPy, in one process.

Shape suffixes: L samples of a sound, F frames, M bands.
"""

import io
from collections.abc import Iterator
from fractions import Fraction
from functools import partial

import av
import numpy as np

from benchmarks.harness import BenchmarkRow, ratio
from uniperceiver.data.media.mel import mel_bands
from uniperceiver.data.media.pixels import Preprocess
from uniperceiver.data.media.sound_view import sound_grid
from uniperceiver.data.media.sounds import decode_sound
from uniperceiver.records import Sample
from uniperceiver.records.sounds import SoundShape

SPEED_GOAL = 0.8  # of the speed of the bare loop
PROBING_GOAL = 0.6  # of the time with FFmpeg's usual look into a file
KINDS = (("flac", "flac"), ("mp3", "libmp3lame"))
VIEW = Preprocess(seconds=5.12, hop=32, sound=SoundShape())


def sound_rows(pairs: int, count: int = 40, seconds: float = 5.0) -> Iterator[BenchmarkRow]:
    """Speed of reading short sounds over the bare loop, and time of a long WAV file over that with usual probing.

    Args:
        count: short sounds, of so many seconds.
    """
    for kind, codec in KINDS:
        files = [encoded(noise(number, seconds, 16_000, 1), 16_000, kind, codec) for number in range(count)]
        name = f"data/speed over bare loop/{kind} sounds/{count} of {seconds:g} s, 16 kHz, to log-mel 64/threads1"
        yield ratio(name, partial(_bare, files), partial(_ours, files), goal=SPEED_GOAL, at_least=True, pairs=pairs)
    long = encoded(noise(0, 2 * seconds, 48_000, 2), 48_000, "wav", "pcm_s16le")
    name = f"data/time over usual probing/wav, {2 * seconds:g} s, 48 kHz stereo to 16 kHz mono/threads1"
    yield ratio(name, partial(_decoded, long), partial(_probed, long), goal=PROBING_GOAL, pairs=pairs)


def noise(seed: int, seconds: float, rate: int, channels: int) -> np.ndarray:
    """White noise, (channels, L) float32."""
    return np.random.default_rng(seed).uniform(-0.3, 0.3, (channels, round(seconds * rate))).astype(np.float32)


def encoded(x_CL: np.ndarray, rate: int, kind: str, codec: str) -> bytes:
    """A sound in a file of that kind."""
    file, layout = io.BytesIO(), "mono" if len(x_CL) == 1 else "stereo"
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        for start in range(0, x_CL.shape[1], 4096):
            part = np.ascontiguousarray(x_CL[:, start : start + 4096])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def _ours(files: list[bytes]) -> list[np.ndarray]:
    return [sound_grid(Sample(id="a", others={"audio": data}), VIEW) for data in files]


def _bare(files: list[bytes]) -> list[np.ndarray]:
    """PyAV and NumPy, as one would write it for this alone."""
    grids, window = [], np.hanning(1025)[:-1]
    for data in files:
        with av.open(io.BytesIO(data), mode="r") as container:
            x = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)[0]
        x_L = np.zeros(161 * 512)
        samples_L = (x / 32768 if x.dtype == np.int16 else x)[: 160 * 512]
        x_L[: len(samples_L)] = samples_L
        frames_FL = np.lib.stride_tricks.sliding_window_view(x_L, 1024)[::512] * window
        power = np.abs(np.fft.rfft(frames_FL)) ** 2
        grids.append(np.log(np.maximum(power @ mel_bands(16_000, 1024, 64), 1e-6)).astype(np.float32))
    return grids


def _decoded(data: bytes) -> np.ndarray:
    return decode_sound(data, "a", 16_000, lambda seconds: (0.0, seconds))


def _probed(data: bytes) -> np.ndarray:
    """The same frame by frame, as FFmpeg opens files by itself."""
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=16_000)
    with av.open(io.BytesIO(data), mode="r") as container:
        parts = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    return np.concatenate([part.to_ndarray() for part in (*parts, *resampler.resample(None))], axis=1)[0]
