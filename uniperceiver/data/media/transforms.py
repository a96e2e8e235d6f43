"""Pictures made ready for the model: pure functions of an array and a NumPy generator.

Images and clips are (F, H, W, C) uint8 with C = 3; an image is one frame. All frames of a clip are treated alike.
Shape suffixes: F frames, H W pixels, C colours.
"""

from collections.abc import Sequence

import numpy as np

from uniperceiver.config import AugmentConfig
from uniperceiver.data.media.geometry import Fit, evaluation_window, random_part, resized, training_window
from uniperceiver.data.media.randaugment import rand_augment


def train_view(
    frames_FHWC: np.ndarray, size: int, augment: AugmentConfig, rng: np.random.Generator, fit: Fit = "crop"
) -> np.ndarray:
    """What training sees of an image or clip, (F, size, size, 3) uint8."""
    height, width = frames_FHWC.shape[1:3]
    frames_FHWC = training_window(height, width, augment, rng, fit).pixels(frames_FHWC, size)
    if augment.colour > 0:
        frames_FHWC = recolour(frames_FHWC, augment.colour, rng)
    frames_FHWC = rand_augment(frames_FHWC, augment.randaugment, augment.magnitude, rng)
    if rng.random() < augment.erasing:
        frames_FHWC = erase(frames_FHWC, rng)
    return frames_FHWC


def eval_view(frames_FHWC: np.ndarray, size: int, fit: Fit = "crop") -> np.ndarray:
    """What evaluation sees of an image or clip, (F, size, size, 3) uint8."""
    height, width = frames_FHWC.shape[1:3]
    return evaluation_window(height, width, fit).pixels(frames_FHWC, size)


def resize_and_centre_crop(frames_FHWC: np.ndarray, size: int) -> np.ndarray:
    """The central square, its side resized to `size`, (F, size, size, 3) uint8."""
    return eval_view(frames_FHWC, size)


def random_resized_crop(frames_FHWC: np.ndarray, size: int, min_area: float, rng: np.random.Generator) -> np.ndarray:
    """A random part of `min_area` to all of the area, nearly square, resized to (F, size, size, 3) uint8."""
    height, width = frames_FHWC.shape[1:3]
    return resized(frames_FHWC, random_part(height, width, min_area, rng), size)


def flip(frames_FHWC: np.ndarray) -> np.ndarray:
    """Mirrored left to right; makes captions that say "left" or "right" untrue, so that nothing flips by default."""
    return np.ascontiguousarray(frames_FHWC[:, :, ::-1])


def recolour(frames_FHWC: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Brightness, then contrast around the mean, each times a random number of 1 - strength to 1 + strength."""
    brightness, contrast = rng.uniform(1 - strength, 1 + strength, 2).tolist()
    bright_FHWC = frames_FHWC * np.float32(brightness)
    mean = bright_FHWC.mean(dtype=np.float64)
    changed_FHWC = bright_FHWC * np.float32(contrast) + np.float32(mean * (1 - contrast))
    return np.clip(changed_FHWC.round(), 0, 255).astype(np.uint8)


def erase(frames_FHWC: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random rectangle (2 to 33 % of the area) filled with noise, as in random erasing (Zhong et al., 2020)."""
    height, width = frames_FHWC.shape[1:3]
    area = height * width * rng.uniform(0.02, 0.33)
    aspect = np.exp(rng.uniform(*np.log((0.3, 3.3))))
    part_width = min(width, max(1, round(np.sqrt(area * aspect))))
    part_height = min(height, max(1, round(np.sqrt(area / aspect))))
    left, top = int(rng.integers(width - part_width + 1)), int(rng.integers(height - part_height + 1))
    erased_FHWC = frames_FHWC.copy()
    noise_HWC = rng.integers(0, 256, (part_height, part_width, 3), dtype=np.uint8)
    erased_FHWC[:, top : top + part_height, left : left + part_width] = noise_HWC
    return erased_FHWC


def normalise(frames_FHWC: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Pixels as the model reads them, (F, C, H, W) float32; mean and std per colour, of values in [0, 1]."""
    mean_C, std_C = np.asarray(mean, dtype=np.float32), np.asarray(std, dtype=np.float32)
    # Colours apart first: along pixels, arithmetic is several times faster than along three colours.
    scaled_FCHW = frames_FHWC.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    scaled_FCHW /= (255 * std_C)[:, None, None]
    scaled_FCHW -= (mean_C / std_C)[:, None, None]
    return scaled_FCHW


def choose_frames(
    available: int, frames: int, stride: int, rng: np.random.Generator | None, moment: float | None = None
) -> np.ndarray:
    """Which frames of a clip are taken, (frames,) int64: `stride` apart, from a random start (None: centred).

    In a clip that is too short the last frame is repeated.

    Args:
        moment: where they are taken instead: 0 the first ones, 1 the last.

    Raises:
        ValueError: there is no frame, or frames or stride is not positive.
    """
    if min(available, frames, stride) < 1:
        raise ValueError(f"cannot take {frames} frames, {stride} apart, from a clip of {available}")
    spare = max(0, available - ((frames - 1) * stride + 1))
    if moment is not None:
        start = round(moment * spare)
    else:
        start = spare // 2 if rng is None else int(rng.integers(spare + 1))
    return np.minimum(start + stride * np.arange(frames), available - 1)
