"""What was found in a picture as an SVG that lies over it: sharp at any size, and without a second picture."""

from collections.abc import Sequence
from dataclasses import dataclass

from uniperceiver.evaluation.localisation.shown import ShownThing, ShownThings
from uniperceiver.palette import class_tone
from uniperceiver.report.parts.numbers import shortened
from uniperceiver.report.parts.outlines import outline_path

_KEYS = 12  # classes in a legend


@dataclass(frozen=True, kw_only=True)
class OverlayShape:
    """Holds a box, and the outline of a mask if there is one, in pixels of the picture."""

    x: float
    y: float
    width: float
    height: float
    path: str  # "": no mask
    colour: str
    marked: bool  # by people; else found
    title: str  # what is said when it is pointed at


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """Holds everything that lies over a picture, the best answer on top."""

    width: int
    height: int
    shapes: Sequence[OverlayShape]
    tally: str  # "": nobody marked the things
    complete: bool  # everything was found, and nothing else


@dataclass(frozen=True, kw_only=True)
class ClassKey:
    """Holds a class and its colour."""

    name: str
    colour: str


def overlay_of(things: ShownThings) -> Overlay:
    """Draw what people marked, then what was found, both from the worst to the best."""
    marked = [_shape(thing, marked=True) for thing in things.truth or ()]
    answers = [_shape(thing, marked=False) for thing in reversed(things.answers)]
    return Overlay(
        width=things.size[1],
        height=things.size[0],
        shapes=[*marked, *answers],
        tally="" if things.truth is None else tally([things]),
        complete=things.truth is not None and things.right == things.things and not things.surplus,
    )


def tally(pictures: Sequence[ShownThings]) -> str:
    """Count what was found in pictures: found 11 of 14, 2 too many; "" where nobody marked the things."""
    judged = [picture for picture in pictures if picture.truth is not None]
    if not judged:
        return ""
    right, things, surplus = (
        sum(getattr(picture, name) for picture in judged) for name in ("right", "things", "surplus")
    )
    start = f"found {right} of {things}" if things else "nothing there"
    return f"{start}, {surplus} too many" if surplus else start


def class_keys(pictures: Sequence[ShownThings]) -> tuple[list[ClassKey], int]:
    """List the classes that are seen in pictures, in their order, and count those that there is no room for."""
    seen = {thing.place: thing.label for picture in pictures for thing in (*picture.answers, *(picture.truth or ()))}
    names = [(place, seen[place]) for place in sorted(seen) if place >= 0]
    keys = [ClassKey(name=name, colour=class_tone(place)) for place, name in names[:_KEYS]]
    return keys, len(names) - len(keys)


def _shape(thing: ShownThing, *, marked: bool) -> OverlayShape:
    x0, y0, x1, y1 = thing.box
    name = shortened(thing.label, 80) or "of unknown class"
    if thing.score is not None:
        verdict = {True: " ✓", False: " ✗", None: ""}[thing.right]
        name = f"{name} {thing.score:.2f}{verdict}"
    return OverlayShape(
        x=round(x0, 1),
        y=round(y0, 1),
        width=round(max(0.0, x1 - x0), 1),
        height=round(max(0.0, y1 - y0), 1),
        path="" if thing.mask_HW is None else outline_path(thing.mask_HW),
        colour=class_tone(max(0, thing.place)),
        marked=marked,
        title=f"marked: {name}" if marked else name,
    )
