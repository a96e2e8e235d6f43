"""What was found in the pictures of a split, picture by picture, and its figures.

Shape suffixes: K classes, M metrics.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from uniperceiver.evaluation.intervals import Interval
from uniperceiver.evaluation.localisation.average_precision import METRICS, Precision, by_class, class_means, figures_of
from uniperceiver.evaluation.localisation.matching import Matches
from uniperceiver.evaluation.localisation.pictures import box_matches, filled_matches, mask_matches
from uniperceiver.evaluation.predictions import ClassPrecision
from uniperceiver.records.regions import Detections, PictureThings

MASK = "mask_"  # before the metrics of masks
_OF_CLASSES = ("ap", "ap50")  # what is said of each class


@dataclass(frozen=True, kw_only=True)
class FoundThings:
    """Collects what was found; pictures in which nobody has marked the things are left out."""

    names: Sequence[str]  # of the classes
    masks: bool  # whether masks are judged as well
    boxes: list[Matches] = field(default_factory=list)  # by picture
    outlines: list[Matches] = field(default_factory=list)  # by picture, of masks

    def add(self, detections: Detections, things: PictureThings) -> Matches | None:
        """Match the detections of a picture, and return what their boxes found.

        Detections without masks are judged as if their boxes were full.
        """
        if things.box_O4 is None:
            return None
        self.boxes.append(box_matches(detections, things))
        if self.masks and things.masks is not None:
            by_masks = filled_matches if detections.masks is None else mask_matches
            self.outlines.append(by_masks(detections, things))
        return self.boxes[-1]

    @property
    def things(self) -> np.ndarray:
        """(K,) int64: how many things of each class there are to find."""
        labels = [picture.class_O[picture.counted_AO[0] & (picture.class_O >= 0)] for picture in self.boxes]
        return np.bincount(np.concatenate([*labels, np.zeros(0, np.int64)]), minlength=len(self.names))

    def figures(self) -> dict[str, float]:
        """Every metric without its interval; those of which there is no such thing are left out."""
        values: dict[str, float] = {}
        for prefix, matches in self._kinds():
            figures_1KM = figures_of(by_class(matches, len(self.names)), np.ones((1, len(matches))))
            pairs = zip(METRICS, class_means(figures_1KM)[0].tolist(), strict=True)
            values |= {prefix + name: value for name, value in pairs if not math.isnan(value)}
        return values

    def precision(self) -> tuple[dict[str, tuple[float, Interval]], ClassPrecision]:
        """Every metric with its interval, and those of each class."""
        metrics: dict[str, tuple[float, Interval]] = {}
        of_classes: dict[str, tuple[float | None, ...]] = {}
        for prefix, matches in self._kinds():
            precision = Precision.of(matches, len(self.names))
            metrics |= {prefix + name: (precision.value(name), precision.interval(name)) for name in METRICS}
            for name in _OF_CLASSES:
                low_K, value_K, high_K = precision.of_classes(name)
                for end, values in (("", value_K), ("_low", low_K), ("_high", high_K)):
                    of_classes[f"{prefix}{name}{end}"] = tuple(x if math.isfinite(x) else None for x in values.tolist())
        there = {name: pair for name, pair in metrics.items() if not math.isnan(pair[0])}
        return there, ClassPrecision(names=tuple(self.names), things=tuple(self.things.tolist()), figures=of_classes)

    def _kinds(self) -> Iterator[tuple[str, list[Matches]]]:
        """How boxes are matched and, where they are asked for, masks; with what their metrics begin with."""
        for prefix, matches in (("", self.boxes), (MASK, self.outlines)):
            if matches:
                yield prefix, matches
