"""Scenes as sounds: each thing is a tone. Its colour is the pitch, its shape the timbre, its motion the course in time.

Shape suffixes: L samples of a sound.
"""

from collections.abc import Mapping

import numpy as np

from uniperceiver.data.scenes.scene import COLOURS, Scene, Thing
from uniperceiver.streams import numpy_stream

RATE = 16000  # samples a second
SAMPLES = 16384  # of a scene: 1.024 s, which are whole patches of hops of 16 and 32 ms
_LOWEST = 330.0  # Hz of the first colour; each further one is four semitones higher, so that no glide reaches it
_OUT_OF_TUNE = 0.02  # at most, relative, so that a colour is not one frequency
_HIGHEST = 0.48 * RATE  # Hz; partials above are left out: they would fold down
_LOUDNESS = {"large": 0.2, "small": 0.08}  # root mean square of a steady tone; 8 dB apart
_NOISE = 0.006  # of the background

# Partials of each shape: multiples of the pitch, and their amplitudes. Ring and star have more than that, see `_tone`.
_PARTIALS: Mapping[str, Mapping[float, float]] = {
    "circle": {1: 1.0},
    "square": {1: 1.0, 3: 1 / 3, 5: 1 / 5},
    "triangle": {1: 1.0, 2: 1 / 2, 3: 1 / 3, 4: 1 / 4, 5: 1 / 5},
    "diamond": {1: 1.0, 2: 1.0, 4: 1.0},
    "cross": {1: 1.0, 1.414: 1.0, 2.1: 1.0},  # as a bell: no multiples
    "ring": {1: 1.0},
    "star": {1: 1.0, 2: 1 / 2},
}
_HISS = 0.7  # of a ring: noise that swells with the tone, beside it
_PLUCKS, _DECAY = 8.0, 3.0  # of a star: strokes a second, and how fast each fades
_GLIDE, _VIBRATO, _SHAKES = 1.7, 1.2, 5.0  # semitones up and down; semitones to both sides, times a second
_SOFTEST = 0.12  # of a tone that begins to grow or has shrunk
_SLOW, _FAST = 3.0, 9.0  # pulses a second, at the two ends of a move sideways
_BETWEEN = 0.1  # of a tone between two pulses


def hear(scene: Scene) -> np.ndarray:
    """All things of a scene at once, the foreground loudest, over faint noise, (L,) float32; a function of it."""
    rng = numpy_stream(scene.seed, "sound of a scene")
    sound_L = _NOISE * rng.standard_normal(SAMPLES)
    for thing in scene.things:
        sound_L += _LOUDNESS[thing.size] * _tone(thing, 1 + _OUT_OF_TUNE * rng.uniform(-1, 1), rng)
    return sound_L.astype(np.float32)


def pitch_of(colour: str) -> float:
    """The frequency of a colour in Hz, in tune."""
    return _LOWEST * 2.0 ** (tuple(COLOURS).index(colour) / 3)


def _tone(thing: Thing, tune: float, rng: np.random.Generator) -> np.ndarray:
    """What one thing sounds like, (L,) float64, with a root mean square of 1 where it is steady."""
    time_L = np.arange(SAMPLES) / SAMPLES
    semitones_L, loudness_L = _course(thing.motion, time_L)
    frequency_L = tune * pitch_of(thing.colour) * np.exp2(semitones_L / 12)
    turns_L = np.cumsum(frequency_L) / RATE
    partials = _PARTIALS[thing.shape].items()
    heard = [(order, loud) for order, loud in partials if order * frequency_L.max() < _HIGHEST]
    tone_L = sum((loud * _sine(order * turns_L) for order, loud in heard), np.zeros(SAMPLES))
    power = sum(loud**2 for _, loud in heard) / 2
    if thing.shape == "ring":
        tone_L += _HISS * rng.standard_normal(SAMPLES) * abs(_sine(turns_L))
        power += _HISS**2 / 2
    if thing.shape == "star":
        tone_L *= np.exp(-_DECAY * (_PLUCKS * time_L * SAMPLES / RATE % 1))
        power *= (1 - np.exp(-2 * _DECAY)) / (2 * _DECAY)
    return loudness_L * tone_L / np.sqrt(power)


def _sine(turns_L: np.ndarray) -> np.ndarray:
    """sin(2 pi turns), computed in float32 of the turn that has begun: several times faster, and right to 1e-6."""
    sine_L: np.ndarray = np.sin((2 * np.pi * (turns_L - np.floor(turns_L))).astype(np.float32))
    return sine_L


def _course(motion: str, time_L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Semitones above the pitch, and the loudness, over the time of a scene from 0 to 1, (L,) each."""
    seconds_L, steady_L = time_L * SAMPLES / RATE, np.ones_like(time_L)
    match motion:
        case "moving up" | "moving down":
            direction = 1 if motion == "moving up" else -1
            return direction * _GLIDE * (2 * time_L - 1), steady_L
        case "growing" | "shrinking":
            share_L = time_L if motion == "growing" else 1 - time_L
            return 0 * time_L, _SOFTEST + (1 - _SOFTEST) * share_L
        case "moving right" | "moving left":
            first, last = (_SLOW, _FAST) if motion == "moving right" else (_FAST, _SLOW)
            pulses_L = seconds_L * (first + (last - first) * time_L / 2)  # so many have passed
            return 0 * time_L, _BETWEEN + (1 - _BETWEEN) * (1 - np.cos(2 * np.pi * pulses_L)) / 2
        case "circling":
            return _VIBRATO * np.sin(2 * np.pi * _SHAKES * seconds_L), steady_L
    return 0 * time_L, steady_L
