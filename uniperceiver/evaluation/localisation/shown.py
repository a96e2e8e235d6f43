"""What was found in a picture, for people: boxes and outlines beside those that were marked, and a tally.

Shape suffixes: H W pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from uniperceiver.evaluation.localisation.pictures import box_matches
from uniperceiver.records.regions import LEAST, Detections, PictureThings


@dataclass(frozen=True, kw_only=True)
class ShownThing:
    """A thing in a picture that was found, or that people marked."""

    box: tuple[float, float, float, float]  # x0 y0 x1 y1 in pixels of the picture
    label: str
    place: int  # of the label among all of them
    score: float | None = None  # None: it was marked
    right: bool | None = (
        None  # whether it overlaps a thing of its class by half; None: it was marked, or lies in a crowd
    )
    mask_HW: np.ndarray | None = None  # bool, in pixels of the picture


@dataclass(frozen=True, kw_only=True)
class ShownThings:
    """What was found in a picture beside what is there."""

    size: tuple[int, int]  # height and width of the picture
    answers: tuple[ShownThing, ...]  # best first
    truth: tuple[ShownThing, ...] | None  # None: nobody has marked the things
    things: int = 0  # that can be found: crowds are not counted
    right: int = 0  # of them that were found
    surplus: int = 0  # answers that are none of them

    @classmethod
    def of(cls, picture: Detections, things: PictureThings, *, least: float = LEAST) -> "ShownThings":
        """The detections of at least that score beside the things that were marked."""
        chosen = np.flatnonzero(picture.scores >= np.float32(least))
        good = replace(
            picture,
            boxes=picture.boxes[chosen],
            scores=picture.scores[chosen],
            classes=picture.classes[chosen],
            masks=None if picture.masks is None else picture.masks[chosen],
        )
        if things.box_O4 is None:
            return cls(size=picture.size, answers=tuple(_answers(good, {})), truth=None)
        matches = box_matches(good, things)
        right_D, ignored_D = matches.right_ATD[0, 0], matches.ignored_ATD[0, 0]
        pairs = zip(matches.place_D.tolist(), right_D.tolist(), ignored_D.tolist(), strict=True)
        judged = {place: None if ignored else right for place, right, ignored in pairs}
        return cls(
            size=picture.size,
            answers=tuple(_answers(good, judged)),
            truth=tuple(_marked(things, picture.names)),
            things=int(matches.counted_AO[0].sum()),
            right=int(right_D.sum()),
            surplus=int((~right_D & ~ignored_D).sum()),
        )


def _answers(picture: Detections, judged: dict[int, bool | None]) -> Iterator[ShownThing]:
    for place, (box_4, score, label) in enumerate(
        zip(picture.boxes.tolist(), picture.scores.tolist(), picture.classes.tolist(), strict=True)
    ):
        yield ShownThing(
            box=tuple(box_4),
            label=picture.names[label],
            place=label,
            score=score,
            right=judged.get(place),
            mask_HW=None if picture.masks is None else picture.masks[place],
        )


def _marked(things: PictureThings, names: Sequence[str]) -> Iterator[ShownThing]:
    assert things.box_O4 is not None
    assert things.class_O is not None
    for place, (box_4, label) in enumerate(zip(things.box_O4.tolist(), things.class_O.tolist(), strict=True)):
        yield ShownThing(
            box=tuple(box_4),
            label=names[label] if label >= 0 else "",
            place=label,
            mask_HW=None if things.masks is None else things.masks[place],
        )
