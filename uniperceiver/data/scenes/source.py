"""The embedded data set: scenes of coloured shapes, seen and heard, made when they are read; no file, any size."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from uniperceiver.data.scenes.drawing import boxes, masks, render
from uniperceiver.data.scenes.scene import COLOURS, MOTIONS, SHAPES, Scene, make_scene, relation
from uniperceiver.data.scenes.sounds import RATE, hear
from uniperceiver.data.scenes.texts import COUNTS, PARTICIPLES, describe, paragraph
from uniperceiver.records import Sample
from uniperceiver.records.sounds import Sound
from uniperceiver.streams import numpy_stream
from uniperceiver.strict import record

Label = Literal["none", "shape", "colour", "shape_colour", "count", "motion", "relation"]

_OF_THINGS = ("shape", "colour", "shape_colour", "motion")  # labels that each thing has for itself

_RELATION_TEXTS = {
    "left of": ("left of the other", "to the left of the other"),
    "right of": ("right of the other", "to the right of the other"),
    "above": ("above the other", "over the other"),
    "below": ("below the other", "under the other"),
}


@record
class ScenesSource:
    """Scenes as images, clips, sounds or texts. Sample `index` is a function of (seed, split, index) and these fields.

    A label is a fact about the scene: shape, colour, shape_colour and motion are those of the largest thing,
    relation is where the largest thing is, seen from the other one (such scenes hold exactly two things), count is
    how many things there are. In view `text` the label has to be read out of a caption.

    Raises:
        ValueError: a label that the view or the number of objects cannot have.
    """

    items: int = Field(ge=1)
    """How many samples there are."""
    seed: int = 0
    """Another seed makes other scenes."""
    split: Literal["train", "val", "test"] = "train"
    """Splits never share a random stream."""
    view: Literal["image", "clip", "sound", "text"] = "image"
    """What a sample is: a picture, a clip of `frames` frames, a sound, or sentences about a scene."""
    sound: bool = False
    """With view clip: whether the same scene is heard, too."""
    combinations: Literal["all", "seen", "unseen"] = "all"
    """Of shape and colour. seen: all but eight of 56 occur; unseen: the largest thing is one of those eight."""
    pixels: int = Field(default=64, ge=32, le=1024)
    """Pixels along the side of a picture."""
    frames: int = Field(default=8, ge=1, le=256)
    """Frames of a clip."""
    objects: int = Field(default=2, ge=1, le=len(COUNTS))
    """Most things in a scene."""
    label: Label = "none"
    """What a sample's class says."""

    def __post_init__(self) -> None:
        if self.label == "motion" and self.view == "image":
            raise ValueError("label 'motion' needs view 'clip', 'sound' or 'text': nothing moves in an image")
        if self.label == "relation" and self.view == "sound":
            raise ValueError("label 'relation' needs view 'image', 'clip' or 'text': a sound does not tell where it is")
        if self.sound and self.view != "clip":
            raise ValueError(f"sound: true needs view 'clip', not {self.view!r}: it is the sound of a clip's scene")
        if self.label == "motion" and self.view == "clip" and self.frames < 2:
            raise ValueError("label 'motion' needs 2 frames or more")
        if self.label in ("relation", "count") and self.objects < 2:
            raise ValueError(f"label {self.label!r} needs objects: 2 or more")

    @property
    def classes(self) -> tuple[tuple[str, ...], ...] | None:
        """The texts of each class, its name first; None without labels."""
        match self.label:
            case "none":
                return None
            case "shape":
                return tuple((shape, f"a {shape}") for shape in SHAPES)
            case "colour":
                return tuple((colour,) for colour in COLOURS)
            case "shape_colour":
                return tuple((f"{colour} {shape}",) for shape in SHAPES for colour in COLOURS)
            case "count":
                return tuple((word, f"{word} shape{'s' * (word != 'one')}") for word in COUNTS[: self.objects])
            case "motion":
                return tuple((motion, PARTICIPLES[motion][1]) for motion in MOTIONS)
            case "relation":
                return tuple(_RELATION_TEXTS.values())

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The name of each class; None without labels."""
        return tuple(names[0] for names in self.classes) if self.classes else None

    def open(self, base: Path, where: str) -> "ScenesSource":
        """Itself: there are no files to find."""
        return self

    def __len__(self) -> int:
        return self.items

    def scene(self, index: int) -> Scene:
        """The scene that sample `index` shows or tells about."""
        if not 0 <= index < self.items:
            raise IndexError(f"scene {index} of {self.items}")
        moving = self.view in ("clip", "sound") or (self.view == "text" and self.label in ("none", "motion"))
        least, most = (2, 2) if self.label == "relation" else (1, self.objects)
        rng = numpy_stream(self.seed, "scenes", self.split, index)
        scene = make_scene(rng, objects=most, least=least, moving=moving)
        return scene if self.combinations == "all" else _combined(rng, scene, unseen=self.combinations == "unseen")

    def read(self, index: int) -> Sample:
        """Sample `index`; the same in any process."""
        scene, name = self.scene(index), self._name(index)
        label = label_of(scene, self.label)
        if self.view == "text":
            return Sample(id=name, text=self._text(scene), label=label)
        heard = {"audio": Sound(hear(scene), RATE)} if self.view == "sound" or self.sound else {}
        if self.view == "sound":
            return Sample(id=name, others=heard, captions=describe(scene), label=label)
        first_masks = masks(scene, self.pixels)
        clip = render(scene, self.pixels, self.frames if self.view == "clip" else 1)
        return Sample(
            id=name,
            image=clip[0] if self.view == "image" else None,
            clip=clip if self.view == "clip" else None,
            captions=describe(scene),
            label=label,
            boxes=boxes(first_masks),
            masks=first_masks,
            classes=classes_of_things(scene, self.label),
            others=heard,
        )

    def names(self) -> Iterator[tuple[str, ...]]:
        """What each sample is called."""
        return ((self._name(index),) for index in range(self.items))

    def texts(self) -> Iterator[str]:
        """Every text of the set: classes, then captions or paragraphs in the order of the samples."""
        for names in self.classes or ():
            yield from names
        for scene in map(self.scene, range(self.items)):
            if self.view == "text":
                yield self._text(scene)
            else:
                yield from describe(scene)

    def _name(self, index: int) -> str:
        return f"scenes/{self.split}/{index:06d}"

    def _text(self, scene: Scene) -> str:
        # A paragraph says everything twice, the number of things among it: a label would be no question.
        return paragraph(scene) if self.label == "none" else f"{describe(scene)[0]}."


def is_unseen(shape: str, colour: str) -> bool:
    """Whether a shape of a colour is one of the eight that are kept back: each colour once, no shape left out."""
    return (SHAPES.index(shape) + tuple(COLOURS).index(colour)) % len(SHAPES) == 0


def _combined(rng: np.random.Generator, scene: Scene, *, unseen: bool) -> Scene:
    """The scene with other shapes: the largest thing is unseen, or else no thing is; all such are equally likely."""
    things = []
    for number, thing in enumerate(scene.things):
        is_asked = unseen and number == 0
        shapes = [shape for shape in SHAPES if is_unseen(shape, thing.colour) == is_asked]
        drawn = shapes[int(rng.integers(len(shapes)))]
        stays = (unseen and not is_asked) or is_unseen(thing.shape, thing.colour) == is_asked
        things.append(thing if stays else replace(thing, shape=drawn))
    return replace(scene, things=tuple(things))


def label_of(scene: Scene, label: Label) -> int | None:
    """The class of a scene, an index into `ScenesSource.classes`; None without labels."""
    foreground = scene.things[0]
    shape, colour = SHAPES.index(foreground.shape), tuple(COLOURS).index(foreground.colour)
    match label:
        case "none":
            return None
        case "shape":
            return shape
        case "colour":
            return colour
        case "shape_colour":
            return shape * len(COLOURS) + colour
        case "count":
            return len(scene.things) - 1
        case "motion":
            return tuple(MOTIONS).index(foreground.motion)
        case "relation":
            return tuple(_RELATION_TEXTS).index(relation(*scene.things))


def classes_of_things(scene: Scene, label: Label) -> np.ndarray | None:
    """The class of every thing of a scene, (things,) int64; None where a label says nothing of a single thing."""
    if label not in _OF_THINGS:
        return None
    return np.array([label_of(replace(scene, things=(thing,)), label) for thing in scene.things], dtype=np.int64)
