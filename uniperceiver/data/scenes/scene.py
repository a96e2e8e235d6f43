"""Scenes: a few coloured shapes that stand or move on a dim background, and what is true of them.

The embedded data set draws them (`drawing`) and tells about them (`texts`). Lengths are shares of the picture's side; x
grows to the right, y grows downwards.

Shape suffixes: F frames.
"""

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np

ThingSize = Literal["small", "large"]

SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring", "star")
# Bright, so that nothing of the background can be mistaken for a thing; each is far from the others.
COLOURS = {
    "red": (222, 40, 44),
    "orange": (246, 138, 22),
    "yellow": (246, 228, 60),
    "green": (44, 170, 62),
    "cyan": (76, 214, 224),
    "blue": (48, 88, 232),
    "purple": (152, 62, 204),
    "white": (238, 238, 238),
}
# Motion -> direction of the path in x and y; what grows, shrinks or stands still has no path.
MOTIONS = {
    "still": (0, 0),
    "moving left": (-1, 0),
    "moving right": (1, 0),
    "moving up": (0, -1),
    "moving down": (0, 1),
    "growing": (0, 0),
    "shrinking": (0, 0),
    "circling": (1, 1),
}
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
RADIUS: dict[ThingSize, tuple[float, float]] = {"small": (0.085, 0.11), "large": (0.16, 0.20)}
_SMALLEST = 0.45  # scale of a thing in time when it begins to grow or has shrunk
_MARGIN = 0.03  # least distance between two things, at any time
_DECIDED = 0.06  # how much clearer "above" must be than "left of" before we say it
_UNCLEAR = ((0.34, 0.43), (0.57, 0.66))  # coordinates that are neither the centre nor an edge of the picture


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A coloured shape and its path."""

    shape: str
    colour: str
    size: ThingSize  # at its largest
    motion: str
    x: float  # the middle of its path
    y: float
    radius: float  # at its largest
    travel: float  # length of its path: from end to end, or the diameter when circling
    phase: float  # where a circling thing starts, in turns
    rgb: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Things that never touch, at any time. If there are several, exactly the first is large: the foreground."""

    things: tuple[Thing, ...]
    moving: bool  # whether it is meant as a clip: motions are worth telling
    seed: int  # 31 bits: the background and the choice of words


def make_scene(rng: np.random.Generator, *, objects: int = 2, least: int = 1, moving: bool = False) -> Scene:
    """A random scene of `least` to `objects` things, all of different colours, whose relations are unambiguous."""
    count = int(rng.integers(least, objects + 1))
    colours = rng.permutation(len(COLOURS))[:count]
    first_large = count > 1 or rng.random() < 0.5
    for attempt in itertools.count():
        # Many things do not always fit: each new attempt makes all of them a little smaller.
        things: list[Thing] = []
        for number in range(count):
            size: ThingSize = "large" if first_large and number == 0 else "small"
            colour = tuple(COLOURS)[colours[number]]
            if not _place(rng, things, size, colour, moving, 0.95**attempt):
                break
        if len(things) == count and _is_clear(things, moving):
            return Scene(things=tuple(things), moving=moving, seed=int(rng.integers(2**31)))
    raise AssertionError("unreachable")


def track(thing: Thing, time_F: np.ndarray) -> np.ndarray:
    """Where a thing is, (F, 3) float64: x, y and radius at each time from 0 (first frame) to 1 (last frame)."""
    x_F, y_F = np.full_like(time_F, thing.x), np.full_like(time_F, thing.y)
    radius_F = np.full_like(time_F, thing.radius)
    if thing.motion == "circling":
        angle_F = 2 * np.pi * (thing.phase + time_F)
        x_F, y_F = x_F + thing.travel / 2 * np.cos(angle_F), y_F + thing.travel / 2 * np.sin(angle_F)
    elif thing.motion in ("growing", "shrinking"):
        share_F = time_F if thing.motion == "growing" else 1 - time_F
        radius_F = radius_F * (_SMALLEST + (1 - _SMALLEST) * share_F)
    else:
        along_x, along_y = MOTIONS[thing.motion]
        x_F, y_F = x_F + along_x * thing.travel * (time_F - 0.5), y_F + along_y * thing.travel * (time_F - 0.5)
    return np.stack([x_F, y_F, radius_F], axis=1)


def frame_times(frames: int) -> np.ndarray:
    """When each frame of a clip is taken, (F,) float64 from 0 to 1."""
    return np.linspace(0.0, 1.0, frames) if frames > 1 else np.zeros(1)


def relation(thing: Thing, other: Thing) -> str:
    """Where a thing is, seen from another: the direction in which they are farthest apart, at all times."""
    gap_x, gap_y = _gaps(thing, other)
    if gap_x > gap_y:
        return "left of" if thing.x < other.x else "right of"
    return "above" if thing.y < other.y else "below"


def place_of(thing: Thing) -> tuple[str, str]:
    """Which third of the picture a thing's path is centred in: (left, centre or right), (top, centre or bottom)."""
    low, high = (sum(band) / 2 for band in _UNCLEAR)
    across = "left" if thing.x < low else "right" if thing.x > high else "centre"
    down = "top" if thing.y < low else "bottom" if thing.y > high else "centre"
    return across, down


def _place(
    rng: np.random.Generator,
    things: list[Thing],
    size: ThingSize,
    colour: str,
    moving: bool,
    scale: float,
    tries: int = 12,
) -> bool:
    """Append a thing where it touches no other one; False if no free place was found."""
    shape = SHAPES[int(rng.integers(len(SHAPES)))]
    motion = tuple(MOTIONS)[int(rng.integers(len(MOTIONS)))] if moving else "still"
    draws = rng.random(3 + 2 * tries).tolist()
    low, high = RADIUS[size]
    radius = scale * (low + (high - low) * draws[0])
    travel = scale * (0.28 + 0.12 * draws[1]) if any(MOTIONS[motion]) else 0.0
    half_x, half_y = _reach(motion, radius, travel)
    rgb = _shade(rng, colour)
    for u, v in zip(draws[3::2], draws[4::2], strict=True):
        x, y = (half + 0.01 + (0.98 - 2 * half) * share for half, share in ((half_x, u), (half_y, v)))
        thing = Thing(
            shape=shape, colour=colour, size=size, motion=motion, x=x, y=y, radius=radius, travel=travel,
            phase=draws[2], rgb=rgb,
        )  # fmt: skip
        if all(_fit(other, thing, foreground=number == 0) for number, other in enumerate(things)):
            things.append(thing)
            return True
    return False


def _shade(rng: np.random.Generator, colour: str) -> tuple[int, int, int]:
    """The colour, a little different for each thing: a name is not one RGB value."""
    jitters = rng.integers(-14, 15, 3).tolist()
    red, green, blue = (min(255, max(0, base + by)) for base, by in zip(COLOURS[colour], jitters, strict=True))
    return red, green, blue


def _fit(other: Thing, thing: Thing, *, foreground: bool) -> bool:
    gap_x, gap_y = _gaps(thing, other)
    return max(gap_x, gap_y) >= _MARGIN and (not foreground or abs(gap_x - gap_y) >= _DECIDED)


def _is_clear(things: list[Thing], moving: bool) -> bool:
    """A thing alone is described by its place, so that must be plain to see unless it moves."""
    if len(things) > 1 or (moving and things[0].travel):
        return True
    return not any(low < value < high for value in (things[0].x, things[0].y) for low, high in _UNCLEAR)


def _reach(motion: str, radius: float, travel: float) -> tuple[float, float]:
    """Half the width and height of all that a thing ever covers."""
    along_x, along_y = MOTIONS[motion]
    return radius + abs(along_x) * travel / 2, radius + abs(along_y) * travel / 2


def _gaps(thing: Thing, other: Thing) -> tuple[float, float]:
    """Distance in x and in y between all that two things ever cover; negative where they overlap."""
    x, y = _reach(thing.motion, thing.radius, thing.travel)
    other_x, other_y = _reach(other.motion, other.radius, other.travel)
    return abs(thing.x - other.x) - x - other_x, abs(thing.y - other.y) - y - other_y
