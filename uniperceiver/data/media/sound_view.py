"""What is made of a sample's sound for one task: a part of it, as the grid that the model hears.

Nothing here needs torch, as in `pixels.py`.

Shape suffixes: L samples of a sound, F frames (rows of the grid), M bands or samples of a row.
"""

import io
import wave

import numpy as np

from uniperceiver.config import AugmentConfig, SoundConfig
from uniperceiver.data.media.mel import log_mel
from uniperceiver.data.media.pixels import Preprocess
from uniperceiver.data.media.samples import array_sound
from uniperceiver.data.media.sounds import decode_sound
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.records import Sample
from uniperceiver.records.sounds import Sound, SoundShape

_NOISE_DB = (10.0, 30.0)  # below the sound
_SHOWN_RANGE = 9.0  # in a picture, from the loudest to black: of the logarithm of power, 39 dB
_COLOURS = ((6, 8, 24), (70, 22, 100), (170, 45, 90), (240, 110, 50), (252, 240, 170))  # from black to the loudest
_LEAST_SIDE = 96  # pixels of a picture's longer side
_PLAYED_RATE, _PLAYED_SECONDS = 16_000, 5.0


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


def sound_grid(
    sample: Sample,
    preprocess: Preprocess,
    augment: AugmentConfig | None = None,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """The sample's sound as the model hears it, (F, M) float32, less the mean and over the deviation of all sounds.

    A sample without a sound of its own is heard through its encoded clip.

    Args:
        augment: what is done to it in training, with `rng`.
        rng: draws which part of a longer sound is heard, and where a shorter one lies in the silence, unless the
            sample says the moment; None: the middle.

    Raises:
        BrokenSample: there is none, or it cannot be decoded.
    """
    shape = preprocess.sound
    assert shape is not None
    samples_L = heard_part(sample, shape.rate, preprocess.seconds, rng)
    if augment is not None and rng is not None:
        samples_L = noisy(samples_L, augment, rng)
    grid_FM = unscaled_grid(samples_L, shape, preprocess.hop)
    grid_FM = (grid_FM - np.float32(shape.mean)) / np.float32(shape.deviation)
    return grid_FM if augment is None or rng is None else masked(grid_FM, augment, rng)


def unscaled_grid(samples_L: np.ndarray, shape: SoundShape, hop: float) -> np.ndarray:
    """The grid of samples at the model's rate, (F, M) float32, before mean and deviation."""
    if shape.kind == "waveform":
        return samples_L.reshape(-1, shape.columns).astype(np.float32)
    return log_mel(samples_L, shape.rate, hop, shape.mels)


def heard_part(sample: Sample, rate: int, seconds: float, rng: np.random.Generator | None = None) -> np.ndarray:
    """The part of the sample's sound that is heard, (L,) float32 with silence around, L = seconds times rate.

    Raises:
        BrokenSample: there is none, or it cannot be decoded.
    """

    def window(available: float) -> tuple[float, float]:
        moment = sample.moment
        if moment is None:
            moment = 0.5 if rng is None else float(rng.random())
        start = (available - seconds) * moment
        return start, start + seconds

    sound = sample.holder("audio")
    if isinstance(sound, Sound):
        return array_sound(sound.array, sound.rate, sample.id, rate, window)
    if isinstance(sound, bytes):
        return decode_sound(sound, sample.id, rate, window)
    raise BrokenSample(sample.id, "has no sound")


def noisy(samples_L: np.ndarray, augment: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """The samples louder or softer, perhaps with white noise, (L,) float32; nothing is drawn for what is off."""
    if augment.noise and rng.random() < augment.noise:
        below = rng.uniform(*_NOISE_DB)
        loudness = float(np.sqrt(np.square(samples_L, dtype=np.float64).mean()))
        deviation = np.float32(loudness * 10 ** (-below / 20))
        samples_L = samples_L + deviation * rng.standard_normal(len(samples_L), dtype=np.float32)
    if augment.gain:
        samples_L = samples_L * np.float32(10 ** (rng.uniform(-augment.gain, augment.gain) / 20))
    return samples_L


def masked(grid_FM: np.ndarray, augment: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """The grid with a piece of its frames, and one of its bands, at the mean of all sounds, which is 0.

    Source: Park et al., "SpecAugment" (arXiv 1904.08779), with one mask along each axis.
    """
    shares = (augment.mask_time, augment.mask_mels)
    if not any(shares):
        return grid_FM
    masked_FM = grid_FM.copy()
    for axis, share in enumerate(shares):
        length = masked_FM.shape[axis]
        if share and (width := int(rng.integers(round(share * length) + 1))):
            start = int(rng.integers(length - width + 1))
            np.moveaxis(masked_FM, axis, 0)[start : start + width] = 0
    return masked_FM


def spectrogram_picture(sample: Sample, preprocess: Preprocess) -> np.ndarray:
    """What is heard of the sample's sound for people to look at, (H, W, 3) uint8: time to the right, high notes above.

    Raises:
        BrokenSample: there is none, or it cannot be decoded.
    """
    shape = preprocess.sound
    assert shape is not None
    samples_L = heard_part(sample, shape.rate, preprocess.seconds)
    grid_FM = log_mel(samples_L, shape.rate, preprocess.hop, shape.mels)
    highest = float(grid_FM.max())
    share_MF = np.clip((grid_FM.T[::-1] - highest) / _SHOWN_RANGE + 1, 0, 1)
    stops = np.linspace(0, 1, len(_COLOURS))
    picture_HWC = np.stack([np.interp(share_MF, stops, channel) for channel in zip(*_COLOURS, strict=True)], axis=-1)
    larger = -(-_LEAST_SIDE // max(share_MF.shape))
    return np.kron(picture_HWC.round().astype(np.uint8), np.ones((larger, larger, 1), np.uint8))


def played_sound(sample: Sample, preprocess: Preprocess) -> bytes:
    """What is heard of the sample's sound for people to listen to: a WAV file of 5 seconds and 16 kHz at most.

    Raises:
        BrokenSample: there is none, or it cannot be decoded.
    """
    assert preprocess.sound is not None
    rate = min(preprocess.sound.rate, _PLAYED_RATE)
    samples_L = heard_part(sample, rate, min(preprocess.seconds, _PLAYED_SECONDS))
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes((samples_L * 32767).round().clip(-32768, 32767).astype("<i2").tobytes())
    return file.getvalue()
