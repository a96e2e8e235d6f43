"""The chance level of detection: the best constant boxes of the training set, found in every picture.

Shape suffixes: N boxes of training things, J boxes that are tried.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from uniperceiver.evaluation.localisation.matching import MOST
from uniperceiver.evaluation.localisation.overlaps import box_overlaps
from uniperceiver.records.regions import Detections, PictureThings
from uniperceiver.streams import numpy_stream

_OVERLAP = 0.5  # IoU from which on a thing is found
_CHUNK = 256  # boxes whose overlaps with all others are in memory together


@dataclass(frozen=True, kw_only=True)
class ConstantBoxes:
    """What a model without eyes says of every picture."""

    box_J4: np.ndarray  # float64, corners as shares of the picture, best first
    class_J: np.ndarray  # int64
    score_J: np.ndarray  # float64, things that a box finds in a training picture, on average

    def in_picture(self, size: tuple[int, int], names: Sequence[str]) -> Detections:
        """The boxes in a picture.

        Args:
            size: its height and width.
            names: of all classes.
        """
        height, width = size
        return Detections(
            size=size,
            boxes=(self.box_J4 * np.array([width, height, width, height])).astype(np.float32),
            scores=self.score_J.astype(np.float32),
            classes=self.class_J,
            names=names,
        )


def best_constant_boxes(
    training: Iterable[PictureThings], *, most: int = MOST, seed: int = 0, tried: int = 3000
) -> ConstantBoxes:
    """Choose boxes of training things one after another, each time that which overlaps most things not yet overlapped.

    Two boxes overlap where their IoU as shares of their pictures is above one half and their classes are equal. Of more
    than `tried` things a seeded sample is looked at. When everything is overlapped, counting begins again, without
    the boxes that are chosen already.
    """
    boxes, classes, pictures = [np.zeros((0, 4))], [np.zeros(0, np.int64)], 0
    for things in training:
        assert things.box_O4 is not None
        assert things.class_O is not None
        assert things.crowd_O is not None
        height, width = things.size
        single_O = ~things.crowd_O & (things.class_O >= 0)
        boxes.append(things.box_O4[single_O] / np.array([width, height, width, height]))
        classes.append(things.class_O[single_O])
        pictures += 1
    box_N4, class_N = np.concatenate(boxes), np.concatenate(classes)
    share = min(1.0, tried / max(1, len(box_N4)))
    if share < 1:
        chosen_N = np.sort(numpy_stream(seed, "constant boxes").choice(len(box_N4), tried, replace=False))
        box_N4, class_N = box_N4[chosen_N], class_N[chosen_N]
    place_J, count_J = _chosen(_alike(box_N4, class_N), most)
    return ConstantBoxes(box_J4=box_N4[place_J], class_J=class_N[place_J], score_J=count_J / (share * max(1, pictures)))


def _alike(box_N4: np.ndarray, class_N: np.ndarray) -> np.ndarray:
    """(N, N) bool: which boxes of one class overlap."""
    alike_NN = class_N[:, None] == class_N
    single_N = np.zeros(len(box_N4), bool)
    for start in range(0, len(box_N4), _CHUNK):
        part = slice(start, start + _CHUNK)
        alike_NN[part] &= box_overlaps(box_N4[part], box_N4, single_N) > _OVERLAP
    return alike_NN


def _chosen(alike_NN: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the boxes, and how many things each of them overlaps in all, both by falling numbers."""
    count_N = alike_NN.sum(axis=1)
    left_N, gain_N = np.ones(len(count_N), bool), count_N.copy()
    chosen: list[int] = []
    while len(chosen) < min(most, len(count_N)):
        gain_N[chosen] = -1
        best = int(gain_N.argmax())
        if gain_N[best] == 0:  # all are overlapped
            left_N[:] = True
            gain_N = count_N.copy()
            gain_N[chosen] = -1
            best = int(gain_N.argmax())
        chosen.append(best)
        gain_N -= (alike_NN[:, alike_NN[best] & left_N]).sum(axis=1)
        left_N &= ~alike_NN[best]
    place_J = np.array(chosen, np.int64)
    place_J = place_J[np.argsort(-count_N[place_J], kind="stable")]
    return place_J, count_N[place_J]
