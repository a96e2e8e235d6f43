"""A PICTURE -> MATCHES: what was found in a picture, by boxes, by masks, or by boxes that are taken for masks.

Shape suffixes: D detections, O things of a picture.
"""

from collections.abc import Callable, Sequence

import numpy as np

from uniperceiver.evaluation.localisation.matching import MOST, Matches, Sides, match
from uniperceiver.evaluation.localisation.overlaps import (
    box_areas,
    box_overlaps,
    filled_overlaps,
    mask_areas,
    mask_overlaps,
)
from uniperceiver.records.regions import Detections, PictureThings


def box_matches(detections: Detections, things: PictureThings, most: int = MOST) -> Matches:
    """What the boxes of the detections found."""
    box_O4, class_O, crowd_O = _marked(things)
    area_O = box_areas(box_O4) if things.area_O is None else things.area_O
    overlap_DO = box_overlaps(detections.boxes, box_O4, crowd_O)
    truth = Sides(class_N=class_O, area_N=area_O, crowd_N=crowd_O)
    return match(overlap_DO, _sides(detections, box_areas(detections.boxes)), truth, most)


def mask_matches(detections: Detections, things: PictureThings, most: int = MOST) -> Matches:
    """What the masks of the detections found; things without a mask are left out."""
    assert detections.masks is not None
    return _by_masks(detections, things, mask_areas(detections.masks), mask_overlaps, detections.masks, most)


def filled_matches(detections: Detections, things: PictureThings, most: int = MOST) -> Matches:
    """What masks would find that fill the boxes of the detections, rounded to whole pixels."""
    areas_D = box_areas(np.rint(detections.boxes))
    return _by_masks(detections, things, areas_D, filled_overlaps, detections.boxes, most)


def _by_masks(
    detections: Detections,
    things: PictureThings,
    area_D: np.ndarray,
    overlaps: Callable[[np.ndarray, Sequence[np.ndarray], np.ndarray], np.ndarray],
    shapes: np.ndarray,
    most: int,
) -> Matches:
    assert things.masks is not None
    _, class_O, crowd_O = _marked(things)
    masks = [things.masks[place] for place in range(len(things.masks))]
    has_O = np.array([mask is not None for mask in masks], dtype=bool)
    masks_there = [mask for mask in masks if mask is not None]
    area_O = mask_areas(masks_there) if things.area_O is None else things.area_O[has_O]
    overlap_DO = overlaps(shapes, masks_there, crowd_O[has_O])
    truth = Sides(class_N=class_O[has_O], area_N=area_O, crowd_N=crowd_O[has_O])
    return match(overlap_DO, _sides(detections, area_D), truth, most)


def _marked(things: PictureThings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, classes and crowds of all things of a picture, in its pixels."""
    assert things.box_O4 is not None, "the things of the whole picture are there in evaluation only"
    assert things.class_O is not None
    assert things.crowd_O is not None
    return things.box_O4, things.class_O, things.crowd_O


def _sides(detections: Detections, area_D: np.ndarray) -> Sides:
    return Sides(class_N=detections.classes, area_N=area_D, score_N=detections.scores)
