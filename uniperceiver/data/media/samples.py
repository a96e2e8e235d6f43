"""SAMPLES of sounds as a model hears them: full scale 1, one channel, its rate, a part with silence around.

Shape suffixes: L samples of a sound, C its channels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from uniperceiver.errors import BrokenSample

Window = Callable[[float], tuple[float, float]]
"""From the seconds of a sound to where its part begins and ends; before 0 and behind its end there is silence."""

SILENT = 1e-4  # a sound whose samples are all smaller: three steps of 16 bits
MOST_CHANNELS = 32
MARGIN = 0.05  # seconds on both sides of a part that the resampler looks at
_RATES = (1_000, 768_000)
_LOUDEST = 8.0  # of floats, whose full scale is 1
_CANCELS = 30  # times quieter than its loudest channel, the mean of channels that are out of phase


@dataclass(frozen=True, kw_only=True)
class HeardSound:
    """What a whole sound is like."""

    seconds: float
    rate: int
    channels: int
    silent: bool


def array_sound(x: np.ndarray, own_rate: int, name: str, rate: int, window: Window) -> np.ndarray:
    """A part of samples in memory, (L,), (L, C) or (C, L), int16 or floats whose full scale is 1, as `decode_sound`.

    Raises:
        BrokenSample: another shape or type, no samples, values or a rate that are no sound.
    """
    x_CL = _channels(x, own_rate, name)
    start, stop = window(x_CL.shape[1] / own_rate)
    return sound_part(x_CL, 0, own_rate, name, rate, start, stop)


def hear_array(x: np.ndarray, rate: int, name: str) -> HeardSound:
    """What a whole sound in memory is like.

    Raises:
        BrokenSample: as `array_sound`.
    """
    x_CL = scaled(_channels(x, rate, name), name)
    peak = float(np.abs(x_CL).max())
    return HeardSound(seconds=x_CL.shape[1] / rate, rate=rate, channels=len(x_CL), silent=peak < SILENT)


def _channels(x: np.ndarray, own_rate: int, name: str) -> np.ndarray:
    """The samples as (C, L)."""
    if x.ndim not in (1, 2) or not x.size:
        raise BrokenSample(name, f"an array of shape {x.shape} is no sound; give (samples,) or (samples, channels)")
    x_CL = x[None] if x.ndim == 1 else x if x.shape[0] < x.shape[1] else x.T
    if len(x_CL) > MOST_CHANNELS or (x.ndim == 2 and x.shape[0] == x.shape[1]):
        raise BrokenSample(name, f"an array of shape {x.shape}: samples and channels (at most 32) cannot be told apart")
    if x.dtype != np.int16 and x.dtype.kind != "f":
        raise BrokenSample(name, f"samples of type {x.dtype}; give int16, or floats from -1 to 1")
    refuse_rate(own_rate, name)
    return x_CL


def scaled(x_CL: np.ndarray, name: str) -> np.ndarray:
    """Samples as float32, full scale 1.

    Raises:
        BrokenSample: some are no sound.
    """
    if x_CL.dtype == np.uint8:
        return (x_CL.astype(np.float32, order="C") - 128) / 128
    if x_CL.dtype.kind == "i":
        # One channel after the other, which is several times faster to add up than samples of many.
        return x_CL.astype(np.float32, order="C") * np.float32(2.0 ** (1 - 8 * x_CL.dtype.itemsize))
    with np.errstate(over="ignore"):  # of float64
        x_CL = x_CL.astype(np.float32, order="C")
    peak = float(np.abs(x_CL).max(initial=0))
    if not math.isfinite(peak):
        raise BrokenSample(name, "a sample is not a number, or infinite")
    if peak > _LOUDEST:
        raise BrokenSample(
            name, f"values up to {peak:g}, where full scale is 1: floats that were meant as integers? divide by 32768"
        )
    return x_CL


def _mono(x_CL: np.ndarray) -> np.ndarray:
    """The mean of the channels, or the loudest where they cancel each other, (L,)."""
    if len(x_CL) == 1:
        return x_CL[0]
    mean_L = x_CL.mean(axis=0)
    powers = [float(np.dot(x_L, x_L)) for x_L in x_CL]
    loudest = int(np.argmax(powers))
    cancels = float(np.dot(mean_L, mean_L)) * _CANCELS**2 < powers[loudest]
    return x_CL[loudest] if cancels else mean_L


def sound_part(
    x_CL: np.ndarray, first: int, own_rate: int, name: str, rate: int, start: float, stop: float
) -> np.ndarray:
    """The samples between two seconds as one channel at another rate, silence around them, (L,) float32.

    Args:
        first: the place of the first sample of `x_CL` in the sound.
    """
    part_L = np.zeros(max(0, round((stop - start) * rate)), dtype=np.float32)
    begin = max(first, math.floor((start - MARGIN) * own_rate))
    end = min(first + x_CL.shape[1], math.ceil((stop + MARGIN) * own_rate))
    if end <= begin:
        return part_L
    mono_L = _mono(scaled(x_CL[:, begin - first : end - first], name))
    if own_rate != rate:
        mono_L = _resampled(mono_L, own_rate, rate)
    place = round((begin / own_rate - start) * rate)
    taken_L = mono_L[max(0, -place) : len(part_L) - place]
    part_L[max(0, place) : max(0, place) + len(taken_L)] = taken_L
    return part_L


def _resampled(mono_L: np.ndarray, own_rate: int, rate: int) -> np.ndarray:
    """The samples at another rate, through one filter for all of them."""
    import av

    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(mono_L)[None], format="fltp", layout="mono")
    frame.sample_rate = own_rate
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in parts]) if parts else np.zeros(0, np.float32)


def refuse_rate(rate: int, name: str) -> None:
    least, most = _RATES
    if not least <= rate <= most:
        raise BrokenSample(name, f"{rate:,} samples a second; a sound has {least:,} to {most:,}")
