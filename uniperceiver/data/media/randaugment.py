"""RandAugment (Cubuk et al., 2020) of clips: random operations of Pillow, the same for all frames of a clip.

Shape suffixes: T frames, H W pixels, C = 3 colours.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

STRONGEST = 10  # magnitudes are 0..10
_FILL = (128, 128, 128)  # what comes in from outside the picture

Operation = Callable[[Image.Image, float], Image.Image]  # strength in [-1, 1]; 0 changes little or nothing


def rand_augment(frames_THWC: np.ndarray, operations: int, magnitude: int, rng: np.random.Generator) -> np.ndarray:
    """`operations` operations, drawn with replacement, each with a random sign, (T, H, W, 3) uint8."""
    names = tuple(OPERATIONS)
    for _ in range(operations):
        name = names[int(rng.integers(len(names)))]
        strength = magnitude / STRONGEST * (1 if rng.random() < 0.5 else -1)
        frames_THWC = _apply(OPERATIONS[name], frames_THWC, strength, jointly=name in _JOINT)
    return frames_THWC


def _apply(operation: Operation, frames_THWC: np.ndarray, strength: float, *, jointly: bool) -> np.ndarray:
    frames, height, width, _ = frames_THWC.shape
    if jointly:
        # One tall picture: statistics such as the darkest pixel are those of the whole clip, so it does not flicker.
        tall = operation(
            Image.fromarray(np.ascontiguousarray(frames_THWC).reshape(frames * height, width, 3)), strength
        )
        return np.array(tall).reshape(frames, height, width, 3)
    return np.stack([np.asarray(operation(Image.fromarray(frame_HWC), strength)) for frame_HWC in frames_THWC])


def _auto_contrast(image: Image.Image, strength: float) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalise(image: Image.Image, strength: float) -> Image.Image:
    return ImageOps.equalize(image)


def _invert(image: Image.Image, strength: float) -> Image.Image:
    return ImageOps.invert(image)


def _posterise(image: Image.Image, strength: float) -> Image.Image:
    return ImageOps.posterize(image, 8 - round(4 * abs(strength)))


def _solarise(image: Image.Image, strength: float) -> Image.Image:
    return ImageOps.solarize(image, 256 - round(256 * abs(strength)))


def _colour(image: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Color(image).enhance(1 + 0.9 * strength)


def _contrast(image: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(1 + 0.9 * strength)


def _brightness(image: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1 + 0.9 * strength)


def _sharpness(image: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(1 + 0.9 * strength)


def _rotate(image: Image.Image, strength: float) -> Image.Image:
    return image.rotate(30 * strength, resample=Image.Resampling.BILINEAR, fillcolor=_FILL)


def _shear_x(image: Image.Image, strength: float) -> Image.Image:
    slope = 0.3 * strength
    return _affine(image, (1, slope, -slope * image.height / 2, 0, 1, 0))


def _shear_y(image: Image.Image, strength: float) -> Image.Image:
    slope = 0.3 * strength
    return _affine(image, (1, 0, 0, slope, 1, -slope * image.width / 2))


def _translate_x(image: Image.Image, strength: float) -> Image.Image:
    return _affine(image, (1, 0, 0.45 * strength * image.width, 0, 1, 0))


def _translate_y(image: Image.Image, strength: float) -> Image.Image:
    return _affine(image, (1, 0, 0, 0, 1, 0.45 * strength * image.height))


def _affine(image: Image.Image, coefficients: tuple[float, ...]) -> Image.Image:
    """Output pixel (x, y) is input pixel (a x + b y + c, d x + e y + f)."""
    return image.transform(
        image.size, Image.Transform.AFFINE, coefficients, resample=Image.Resampling.BILINEAR, fillcolor=_FILL
    )


OPERATIONS: dict[str, Operation] = {
    "auto_contrast": _auto_contrast,
    "equalise": _equalise,
    "invert": _invert,
    "rotate": _rotate,
    "posterise": _posterise,
    "solarise": _solarise,
    "colour": _colour,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}
# Those that look at single colours, not at neighbours.
_JOINT = frozenset({"auto_contrast", "equalise", "invert", "posterise", "solarise", "colour", "contrast", "brightness"})
