"""Pictures made ready for the model: pure functions of an array and a NumPy generator.

Images and clips are (F, H, W, C) uint8 with C = 3; an image is one frame. All frames of a clip are treated alike.
Shape suffixes: F frames, H W pixels, C colours.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from uniperceiver.config import AugmentConfig
from uniperceiver.data.media.randaugment import rand_augment

_ASPECT = (3 / 4, 4 / 3)  # width / height of a random crop
_TRIES = 10

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


def train_view(frames_FHWC: np.ndarray, size: int, augment: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """What training sees of an image or clip, (F, size, size, 3) uint8."""
    if augment.crop < 1:
        frames_FHWC = random_resized_crop(frames_FHWC, size, augment.crop, rng)
    else:
        frames_FHWC = resize_and_centre_crop(frames_FHWC, size)
    if rng.random() < augment.flip:
        frames_FHWC = flip(frames_FHWC)
    frames_FHWC = rand_augment(frames_FHWC, augment.randaugment, augment.magnitude, rng)
    if rng.random() < augment.erasing:
        frames_FHWC = erase(frames_FHWC, rng)
    return frames_FHWC


def eval_view(frames_FHWC: np.ndarray, size: int) -> np.ndarray:
    """What evaluation sees of an image or clip, (F, size, size, 3) uint8."""
    return resize_and_centre_crop(frames_FHWC, size)


def resize_and_centre_crop(frames_FHWC: np.ndarray, size: int) -> np.ndarray:
    """The central square, its side resized to `size`, (F, size, size, 3) uint8."""
    height, width = frames_FHWC.shape[1:3]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    # Cropped before it is resized: the long side of a 1 x 5000 picture is never blown up.
    return _resize(frames_FHWC, (left, top, left + side, top + side), size)


def random_resized_crop(frames_FHWC: np.ndarray, size: int, min_area: float, rng: np.random.Generator) -> np.ndarray:
    """A random part of `min_area` to all of the area, nearly square, resized to (F, size, size, 3) uint8."""
    height, width = frames_FHWC.shape[1:3]
    for _ in range(_TRIES):
        area = height * width * rng.uniform(min_area, 1.0)
        aspect = np.exp(rng.uniform(*np.log(_ASPECT)))
        part_width, part_height = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < part_width <= width and 0 < part_height <= height:
            left, top = (int(rng.integers(room + 1)) for room in (width - part_width, height - part_height))
            return _resize(frames_FHWC, (left, top, left + part_width, top + part_height), size)
    # No such part exists in a long and thin picture: the largest central one whose aspect is allowed.
    part_width = min(width, max(1, round(height * _ASPECT[1])))
    part_height = min(height, max(1, round(width / _ASPECT[0])))
    left, top = (width - part_width) // 2, (height - part_height) // 2
    return _resize(frames_FHWC, (left, top, left + part_width, top + part_height), size)


def flip(frames_FHWC: np.ndarray) -> np.ndarray:
    """Mirrored left to right; makes captions that say "left" or "right" untrue, so that nothing flips by default."""
    return np.ascontiguousarray(frames_FHWC[:, :, ::-1])


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


def choose_frames(available: int, frames: int, stride: int, rng: np.random.Generator | None) -> np.ndarray:
    """Which frames of a clip are taken, (frames,) int64: `stride` apart, from a random start (None: centred).

    In a clip that is too short the last frame is repeated.

    Raises:
        ValueError: there is no frame, or frames or stride is not positive.
    """
    if min(available, frames, stride) < 1:
        raise ValueError(f"cannot take {frames} frames, {stride} apart, from a clip of {available}")
    spare = max(0, available - ((frames - 1) * stride + 1))
    start = spare // 2 if rng is None else int(rng.integers(spare + 1))
    return np.minimum(start + stride * np.arange(frames), available - 1)


def _resize(frames_FHWC: np.ndarray, box: Box, size: int) -> np.ndarray:
    """The part in the box, resized with antialiased bicubic interpolation, (F, size, size, 3) uint8."""
    height, width = frames_FHWC.shape[1:3]
    whole: Box = (0.0, 0.0, float(size), float(size))
    if height == width == size and box == whole:
        return frames_FHWC
    return np.stack(
        [
            np.asarray(Image.fromarray(frame_HWC).resize((size, size), Image.Resampling.BICUBIC, box=box))
            for frame_HWC in frames_FHWC
        ]
    )
