"""How far detections and things overlap: IoU of boxes and of masks, with COCO's rule for crowds.

Shape suffixes: D detections, O things of a picture, H W pixels.
"""

from collections.abc import Sequence

import numpy as np

from uniperceiver.records.regions import Masks


def box_areas(box_D4: np.ndarray) -> np.ndarray:
    """Areas of boxes with corners, float64."""
    box_D4 = box_D4.astype(np.float64)
    return (box_D4[:, 2] - box_D4[:, 0]) * (box_D4[:, 3] - box_D4[:, 1])


def box_overlaps(box_D4: np.ndarray, box_O4: np.ndarray, crowd_O: np.ndarray) -> np.ndarray:
    """(D, O) float64: intersection over union; with a crowd, over the area of the detection alone.

    Args:
        box_D4: corners x0 y0 x1 y1 of detections, in pixels.
        box_O4: of things.
        crowd_O: bool, whether a thing is a crowd.
    """
    first_D14, second_1O4 = box_D4.astype(np.float64)[:, None], box_O4.astype(np.float64)[None]
    low_DO2 = np.maximum(first_D14[..., :2], second_1O4[..., :2])
    high_DO2 = np.minimum(first_D14[..., 2:], second_1O4[..., 2:])
    shared_DO = np.clip(high_DO2 - low_DO2, 0, None).prod(axis=2)
    return _over_union(shared_DO, box_areas(box_D4), box_areas(box_O4), crowd_O)


def mask_overlaps(mask_DHW: np.ndarray, masks: Sequence[np.ndarray], crowd_O: np.ndarray) -> np.ndarray:
    """As `box_overlaps`, of masks of one size, counted in pixels.

    Args:
        masks: (H, W) bool of each thing.
    """
    shared_DO = np.zeros((len(mask_DHW), len(masks)))
    for place, mask_HW in enumerate(masks):
        part = _around(mask_HW)  # only there can anything be shared
        shared_DO[:, place] = np.count_nonzero(mask_DHW[:, *part] & mask_HW[part], axis=(1, 2))
    return _over_union(shared_DO, mask_areas(mask_DHW), mask_areas(masks), crowd_O)


def filled_overlaps(box_D4: np.ndarray, masks: Sequence[np.ndarray], crowd_O: np.ndarray) -> np.ndarray:
    """As `mask_overlaps`, where each detection's mask is its whole box, as `filled` makes it."""
    pixel_D4 = np.rint(box_D4).astype(np.int64)
    shared_DO = np.zeros((len(box_D4), len(masks)))
    for place, mask_HW in enumerate(masks):
        height, width = mask_HW.shape
        sums_HW = np.zeros((height + 1, width + 1), np.int64)  # of all pixels above and to the left
        sums_HW[1:, 1:] = mask_HW.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
        x0, x1 = (pixel_D4[:, side].clip(0, width) for side in (0, 2))
        y0, y1 = (pixel_D4[:, side].clip(0, height) for side in (1, 3))
        shared_DO[:, place] = sums_HW[y1, x1] - sums_HW[y0, x1] - sums_HW[y1, x0] + sums_HW[y0, x0]
    return _over_union(shared_DO, box_areas(pixel_D4), mask_areas(masks), crowd_O)


def mask_areas(masks: Masks | Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Pixels of each mask, float64; 0 of a thing without one."""
    areas = [0 if mask_HW is None else np.count_nonzero(mask_HW) for mask_HW in (masks[n] for n in range(len(masks)))]
    return np.array(areas, dtype=np.float64)


def _around(mask_HW: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns that hold all of a mask."""
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _over_union(shared_DO: np.ndarray, area_D: np.ndarray, area_O: np.ndarray, crowd_O: np.ndarray) -> np.ndarray:
    whole_DO = area_D[:, None] + np.where(crowd_O, shared_DO, area_O) - shared_DO
    return np.divide(shared_DO, whole_DO, out=np.zeros_like(shared_DO), where=shared_DO > 0)
