"""THINGS IN PICTURES for people and for shards: what a data set holds of them, and how they are written.

Shape suffixes: O things of a picture, H W pixels.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from uniperceiver.data.formats.objects.outlines import runs_of_mask
from uniperceiver.data.media.decode import stored_size
from uniperceiver.data.media.objects import thing_areas
from uniperceiver.records import Sample

SMALL, MEDIUM = 32**2, 96**2  # square pixels up to which COCO calls a thing small, or of middle size
_HALF = 128  # of a pixel that is covered, in 255ths


@dataclass(frozen=True, kw_only=True)
class ThingFindings:
    """Counts of the things in the pictures that were read."""

    per_picture: Counter[int] = field(default_factory=Counter)  # pictures by how many things they have
    labels: Counter[int] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)  # "small", "medium", "large"; without crowds
    sides: Counter[int] = field(default_factory=Counter)  # root of a box's share of its picture, in per cent
    kinds: Counter[str] = field(default_factory=Counter)  # "crowds", "outlines"

    def update(self, other: "ThingFindings") -> None:
        """Take in what was found in other pictures."""
        self.per_picture.update(other.per_picture)
        self.labels.update(other.labels)
        self.sizes.update(other.sizes)
        self.sides.update(other.sides)
        self.kinds.update(other.kinds)

    def take(self, sample: Sample, height: int, width: int, *, masks: bool) -> None:
        """Count the things of a picture of that size.

        Args:
            masks: draw their masks, too, and count them.
        """
        assert sample.boxes is not None
        box_O4 = np.asarray(sample.boxes, dtype=np.float64)
        own_O = (box_O4[:, 2:] - box_O4[:, :2]).prod(axis=1)
        area_O = thing_areas(sample if masks else replace(sample, masks=None), box_O4)
        crowd_O = np.zeros(len(box_O4), dtype=bool) if sample.crowd is None else sample.crowd
        self.per_picture[len(box_O4)] += 1
        self.labels.update([] if sample.classes is None else sample.classes.tolist())
        names = np.array(["small", "medium", "large"])[np.searchsorted([SMALL, MEDIUM], area_O[~crowd_O])]
        self.sizes.update(names.tolist())
        self.sides.update((100 * np.sqrt(own_O / (height * width))).round().astype(int).tolist())
        self.kinds["crowds"] += int(crowd_O.sum())
        if masks and sample.masks is not None:
            self.kinds["outlines"] += sum(sample.masks[index] is not None for index in range(len(sample.masks)))


def written_things(sample: Sample, stored: bytes, names: Sequence[str] | None, *, masks: bool) -> list[dict[str, Any]]:
    """The things of a sample as JSON, in the pixels of its picture as it is stored now.

    Args:
        stored: the encoded picture, perhaps smaller than that of the sample.
        names: of the classes.
        masks: write outlines, too, as runs.
    """
    if sample.boxes is None or sample.image is None:
        return []
    image = sample.image
    before = stored_size(image, sample.id).upright if isinstance(image, bytes) else (image.shape[0], image.shape[1])
    height, width = stored_size(stored, sample.id).upright
    down, across = height / before[0], width / before[1]
    entries: list[dict[str, Any]] = []
    for number, (x0, y0, x1, y1) in enumerate(np.asarray(sample.boxes, dtype=np.float64).tolist()):
        entry: dict[str, Any] = {"bbox": [x0 * across, y0 * down, (x1 - x0) * across, (y1 - y0) * down]}
        if sample.classes is not None and names is not None:
            entry["category"] = names[int(sample.classes[number])]
        if sample.crowd is not None and sample.crowd[number]:
            entry["iscrowd"] = 1
        if sample.areas is not None:
            entry["area"] = float(sample.areas[number]) * across * down
        if masks and sample.masks is not None:
            mask_HW = sample.masks[number]
            runs = None if mask_HW is None else runs_of_mask(_shrunk(mask_HW, height, width)).tolist()
            entry["segmentation"] = runs and {"size": [height, width], "counts": runs}
        entries.append(entry)
    return entries


def _shrunk(mask_HW: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mask in another size: where it covers half of a pixel; where it covers half of none, where it covers most."""
    if mask_HW.shape == (height, width):
        return mask_HW
    grey = Image.fromarray(mask_HW.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BOX)
    cover_HW = np.asarray(grey)
    return cover_HW >= max(1, min(_HALF, int(cover_HW.max())))
