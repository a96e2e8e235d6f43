"""RandAugment (Cubuk et al., 2020) of clips: random operations of Pillow, the same for all frames of a clip.

Shape suffixes: F frames, H W pixels, C = 3 colours.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

STRONGEST = 10  # magnitudes are 0..10
_FILL = (128, 128, 128)  # what comes in from outside the picture

Operation = Callable[[Image.Image, float], Image.Image]  # strength in [-1, 1]; 0 changes little or nothing


def rand_augment(frames_FHWC: np.ndarray, operations: int, magnitude: int, rng: np.random.Generator) -> np.ndarray:
    """`operations` operations, drawn with replacement, each with a random sign, (F, H, W, 3) uint8."""
    names = tuple(OPERATIONS)
    for _ in range(operations):
        name = names[int(rng.integers(len(names)))]
        strength = magnitude / STRONGEST * (1 if rng.random() < 0.5 else -1)
        frames_FHWC = _apply(OPERATIONS[name], frames_FHWC, strength, jointly=name in _JOINT)
    return frames_FHWC


def _apply(operation: Operation, frames_FHWC: np.ndarray, strength: float, *, jointly: bool) -> np.ndarray:
    frames, height, width, _ = frames_FHWC.shape
    if jointly:
        # One tall picture: statistics such as the darkest pixel are those of the whole clip, so it does not flicker.
        tall = operation(
            Image.fromarray(np.ascontiguousarray(frames_FHWC).reshape(frames * height, width, 3)), strength
        )
        return np.array(tall).reshape(frames, height, width, 3)
    return np.stack([np.asarray(operation(Image.fromarray(frame_HWC), strength)) for frame_HWC in frames_FHWC])


def _affine(image: Image.Image, coefficients: tuple[float, ...]) -> Image.Image:
    """Output pixel (x, y) is input pixel (a x + b y + c, d x + e y + f)."""
    return image.transform(
        image.size, Image.Transform.AFFINE, coefficients, resample=Image.Resampling.BILINEAR, fillcolor=_FILL
    )


# The direction and size of an operation follow the strength, a number in [-1, 1].
OPERATIONS: dict[str, Operation] = {
    "auto_contrast": lambda image, strength: ImageOps.autocontrast(image),
    "equalise": lambda image, strength: ImageOps.equalize(image),
    "invert": lambda image, strength: ImageOps.invert(image),
    "rotate": lambda image, strength: image.rotate(30 * strength, resample=Image.Resampling.BILINEAR, fillcolor=_FILL),
    "posterise": lambda image, strength: ImageOps.posterize(image, 8 - round(4 * abs(strength))),
    "solarise": lambda image, strength: ImageOps.solarize(image, 256 - round(256 * abs(strength))),
    "colour": lambda image, strength: ImageEnhance.Color(image).enhance(1 + 0.9 * strength),
    "contrast": lambda image, strength: ImageEnhance.Contrast(image).enhance(1 + 0.9 * strength),
    "brightness": lambda image, strength: ImageEnhance.Brightness(image).enhance(1 + 0.9 * strength),
    "sharpness": lambda image, strength: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * strength),
    "shear_x": lambda image, strength: _affine(image, (1, 0.3 * strength, -0.3 * strength * image.height / 2, 0, 1, 0)),
    "shear_y": lambda image, strength: _affine(image, (1, 0, 0, 0.3 * strength, 1, -0.3 * strength * image.width / 2)),
    "translate_x": lambda image, strength: _affine(image, (1, 0, 0.45 * strength * image.width, 0, 1, 0)),
    "translate_y": lambda image, strength: _affine(image, (1, 0, 0, 0, 1, 0.45 * strength * image.height)),
}
# Those that look at single colours, not at neighbours.
_JOINT = frozenset({"auto_contrast", "equalise", "invert", "posterise", "solarise", "colour", "contrast", "brightness"})
