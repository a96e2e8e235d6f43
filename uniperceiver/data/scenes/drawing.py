"""Scenes as pixels: frames, and the mask and box of each thing in the first frame.

Shape suffixes: F frames, H W pixels (H = W = the picture's side), C = 3 colours, O things.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from uniperceiver.data.scenes.scene import Scene, frame_times, track

_DIMMEST, _DIM = 8, 84  # range of the background's gradient; all colours of things have a brighter channel
_NOISE_BITS = 5  # background noise is 0..31


@dataclass(frozen=True, kw_only=True)
class _Patch:
    """The part of a frame that a thing touches, and how much of each pixel it covers."""

    rows: slice
    columns: slice
    cover_HW: np.ndarray  # float64 in [0, 1]


def render(scene: Scene, pixels: int, frames: int = 1) -> np.ndarray:
    """The scene as a clip of `frames` frames (an image is one frame), (F, H, W, 3) uint8."""
    rng = np.random.Generator(np.random.PCG64(scene.seed))
    clip_FHWC = _background(rng, pixels, frames)
    times_F = frame_times(frames)
    for thing in scene.things:
        colour_C = np.array(thing.rgb, dtype=np.float64)
        for frame_HWC, (x, y, radius) in zip(clip_FHWC, track(thing, times_F).tolist(), strict=True):
            patch = _patch(thing.shape, x, y, radius, pixels)
            area_HWC = frame_HWC[patch.rows, patch.columns]
            area_HWC += ((colour_C - area_HWC) * patch.cover_HW[..., None]).astype(np.int16).astype(np.uint8)
    return clip_FHWC


def masks(scene: Scene, pixels: int) -> np.ndarray:
    """Where each thing is in the first frame, (O, H, W) bool."""
    masks_OHW = np.zeros((len(scene.things), pixels, pixels), dtype=bool)
    for mask_HW, thing in zip(masks_OHW, scene.things, strict=True):
        x, y, radius = track(thing, frame_times(1))[0].tolist()
        patch = _patch(thing.shape, x, y, radius, pixels)
        # A thing smaller than a pixel still has one: no mask is empty.
        mask_HW[patch.rows, patch.columns] = patch.cover_HW >= min(0.5, patch.cover_HW.max())
    return masks_OHW


def boxes(masks_OHW: np.ndarray) -> np.ndarray:
    """The tight box of each mask, (O, 4) float32: x0 y0 x1 y1 in pixels, x1 and y1 just outside."""
    boxes_O4 = np.zeros((len(masks_OHW), 4), dtype=np.float32)
    for box, mask_HW in zip(boxes_O4, masks_OHW, strict=True):
        columns, rows = np.flatnonzero(mask_HW.any(axis=0)), np.flatnonzero(mask_HW.any(axis=1))
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes_O4


def _background(rng: np.random.Generator, pixels: int, frames: int) -> np.ndarray:
    """Four dim corners blended into each other, and noise that is new in every frame, (F, H, W, 3) uint8."""
    corners = rng.uniform(_DIMMEST, _DIM, (2, 2, 3))
    share = np.linspace(0.0, 1.0, pixels)
    weights = np.stack([1 - share, share], axis=1)  # (pixels, 2)
    gradient_HWC = np.einsum("ha,abc,wb->hwc", weights, corners, weights, optimize=True).astype(np.uint8)
    noise = np.frombuffer(rng.bytes(frames * pixels * pixels * 3), dtype=np.uint8) >> (8 - _NOISE_BITS)
    return gradient_HWC + noise.reshape(frames, pixels, pixels, 3)


def _patch(shape: str, x: float, y: float, radius: float, pixels: int) -> _Patch:
    reach = radius * pixels + 1  # one more pixel: soft edges
    left, top = max(0, int(x * pixels - reach)), max(0, int(y * pixels - reach))
    right, bottom = min(pixels, int(x * pixels + reach) + 1), min(pixels, int(y * pixels + reach) + 1)
    u_W = (np.arange(left, right) + 0.5 - x * pixels) / (radius * pixels)
    v_H1 = ((np.arange(top, bottom) + 0.5 - y * pixels) / (radius * pixels))[:, None]
    outside_HW = DISTANCE[shape](u_W, v_H1)
    cover_HW = np.clip(0.5 - outside_HW * (radius * pixels), 0.0, 1.0)
    return _Patch(rows=slice(top, bottom), columns=slice(left, right), cover_HW=cover_HW)


# Each shape is a function of (u, v), the place relative to the thing's centre in units of its radius: about the
# distance to the outline, negative inside.


def _circle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sqrt(u * u + v * v) - 0.98


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(abs(u), abs(v)) - 0.86


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    slope = (abs(u) * 1.8 - (v + 1) * 0.98) / np.hypot(1.8, 0.98)  # two sides from the top to the base at v = 0.8
    return np.maximum(slope, v - 0.8)


def _diamond(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (abs(u) / 0.8 + abs(v) - 1) / np.hypot(1 / 0.8, 1)  # taller than wide: not a turned square


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    near, far = np.minimum(abs(u), abs(v)), np.maximum(abs(u), abs(v))
    return np.maximum(near - 0.3, far - 0.96)


def _ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return abs(np.sqrt(u * u + v * v) - 0.74) - 0.24


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    radius = np.sqrt(u * u + v * v)
    tenth = np.pi / 5
    # Fold the ten mirrored tenths of a five-pointed star onto one, between a point (angle 0) and a notch (angle pi/5).
    angle = abs((np.arctan2(u, -v) + tenth) % (2 * tenth) - tenth)
    notch_x, notch_y = 0.44 * np.cos(tenth), 0.44 * np.sin(tenth)
    along, up = radius * np.cos(angle), radius * np.sin(angle)
    return (notch_y * (along - 1) + (1 - notch_x) * up) / np.hypot(notch_y, 1 - notch_x)


DISTANCE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "diamond": _diamond,
    "cross": _cross,
    "ring": _ring,
    "star": _star,
}
