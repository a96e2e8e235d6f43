"""What is made of a sample's sound for one task: a part of it, as the grid that the model hears.

Nothing here needs torch, as in `pixels.py`.

Shape suffixes: L samples of a sound, F frames (rows of the grid), M bands or samples of a row.
"""

import numpy as np

from uniperceiver.config import SoundConfig
from uniperceiver.data.media.mel import log_mel
from uniperceiver.data.media.pixels import Preprocess
from uniperceiver.data.media.samples import Window, array_sound
from uniperceiver.data.media.sounds import decode_sound
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.records import Sample
from uniperceiver.records.sounds import Sound, SoundShape


def sound_shape(wish: SoundConfig) -> SoundShape:
    """What a sound is for a model that hears, before its training sounds were measured.

    Raises:
        UserError: keys of `model.sound` that contradict each other.
    """
    usual: tuple[int, int] = (16, 16) if wish.kind == "spectrogram" else (1, 256)
    patch = wish.patch or usual
    if wish.kind == "waveform" and wish.mels is not None:
        raise UserError("model.sound.mels: has no meaning with model.sound.kind=waveform; remove the key")
    shape = SoundShape(rate=wish.rate, kind=wish.kind, patch=patch, mels=wish.mels or SoundShape.mels)
    if shape.columns % patch[1]:
        raise UserError(
            f"model.sound.mels: {shape.mels} is not a multiple of the {patch[1]} bands of model.sound.patch; write "
            f"{shape.mels - shape.mels % patch[1] or patch[1]}"
        )
    return shape


def sound_grid(sample: Sample, preprocess: Preprocess, rng: np.random.Generator | None = None) -> np.ndarray:
    """The sample's sound as the model hears it, (F, M) float32, less the mean and over the deviation of all sounds.

    A sample without a sound of its own is heard through its encoded clip.

    Args:
        rng: draws which part of a longer sound is heard, and where a shorter one lies in the silence; None: the middle.

    Raises:
        BrokenSample: there is none, or it cannot be decoded.
    """
    shape = preprocess.sound
    assert shape is not None
    samples_L = _heard(sample, shape.rate, _window(preprocess.seconds, rng, sample.moment))
    grid_FM = unscaled_grid(samples_L, shape, preprocess.hop)
    return (grid_FM - np.float32(shape.mean)) / np.float32(shape.deviation)


def unscaled_grid(samples_L: np.ndarray, shape: SoundShape, hop: float) -> np.ndarray:
    """The grid of samples at the model's rate, (F, M) float32, before mean and deviation."""
    if shape.kind == "waveform":
        return samples_L.reshape(-1, shape.columns).astype(np.float32)
    return log_mel(samples_L, shape.rate, hop, shape.mels)


def _heard(sample: Sample, rate: int, window: Window) -> np.ndarray:
    sound = sample.holder("audio")
    if isinstance(sound, Sound):
        return array_sound(sound.array, sound.rate, sample.id, rate, window)
    if isinstance(sound, bytes):
        return decode_sound(sound, sample.id, rate, window)
    raise BrokenSample(sample.id, "has no sound")


def _window(seconds: float, rng: np.random.Generator | None, moment: float | None) -> Window:
    """From the seconds of a sound to where the part begins and ends that is heard; outside of it there is silence."""
    if moment is None:
        moment = 0.5 if rng is None else float(rng.random())

    def window(available: float) -> tuple[float, float]:
        start = (available - seconds) * moment
        return start, start + seconds

    return window
