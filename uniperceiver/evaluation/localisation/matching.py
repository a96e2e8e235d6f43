"""DETECTIONS x THINGS -> MATCHES: which detections of a picture found a thing, by the rules of COCO.

The rules are those of `pycocotools.cocoeval.COCOeval.evaluateImg`, for all thresholds and areas at once.
Shape suffixes: D detections, O things of a picture, A areas, T thresholds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

MOST = 100  # detections of a class in a picture that count
THRESHOLDS_T = np.linspace(0.5, 0.95, 10)  # of IoU
AREAS: Mapping[str, tuple[float, float]] = {  # least and most of a thing, in pixels
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}


@dataclass(frozen=True, kw_only=True)
class Matches:
    """What was found in a picture: by detection, and how many things of each class there are to find."""

    place_D: np.ndarray  # int64, where each stands among the picture's detections
    class_D: np.ndarray  # int64
    score_D: np.ndarray  # float64; within a class never rising
    right_ATD: np.ndarray  # bool: found a thing that counts
    ignored_ATD: (
        np.ndarray
    )  # bool: found a crowd or a thing of another area, or is of another area: neither right nor wrong
    class_O: np.ndarray  # int64
    counted_AO: np.ndarray  # bool: no crowd, and of that area


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The detections or the things of a picture, without their places."""

    class_N: np.ndarray  # int64
    area_N: np.ndarray  # float64, square pixels
    crowd_N: np.ndarray | None = None  # bool, of things
    score_N: np.ndarray | None = None  # of detections


def match(overlap_DO: np.ndarray, detections: Sides, things: Sides, most: int = MOST) -> Matches:
    """Give every detection, best first, the free thing of its class that it overlaps most.

    A thing that counts is preferred to a crowd or one of another area; a crowd may be found many times. Of equal scores
    the first detection comes first, of equal overlaps the last thing is taken.

    Args:
        overlap_DO: as `overlaps` has them, with COCO's rule for crowds.
        most: detections of a class; the others are left out.
    """
    assert detections.score_N is not None
    assert things.crowd_N is not None
    bounds_A2 = np.array(list(AREAS.values()))
    counted_AO = ~(things.crowd_N | _outside(things.area_N, bounds_A2))
    chosen, right, ignored = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    for label in np.unique(detections.class_N).tolist():
        own_D = np.flatnonzero(detections.class_N == label)
        own_D = own_D[np.argsort(-detections.score_N[own_D], kind="stable")][:most]
        own_O = np.flatnonzero(things.class_N == label)
        matched_ATD, counts_ATD = _assigned(
            overlap_DO[np.ix_(own_D, own_O)], counted_AO[:, own_O], things.crowd_N[own_O]
        )
        chosen.append(own_D)
        right.append(matched_ATD & counts_ATD)
        outside_A1D = _outside(detections.area_N[own_D], bounds_A2)[:, None]
        ignored.append(np.where(matched_ATD, ~counts_ATD, outside_A1D))
    place_D = np.concatenate(chosen) if chosen else np.zeros(0, np.int64)
    nothing_ATD = np.zeros((len(AREAS), len(THRESHOLDS_T), 0), bool)
    return Matches(
        place_D=place_D,
        class_D=detections.class_N[place_D],
        score_D=detections.score_N[place_D].astype(np.float64),
        right_ATD=np.concatenate([nothing_ATD, *right], axis=2),
        ignored_ATD=np.concatenate([nothing_ATD, *ignored], axis=2),
        class_O=things.class_N,
        counted_AO=counted_AO,
    )


def _outside(area_N: np.ndarray, bounds_A2: np.ndarray) -> np.ndarray:
    return (area_N < bounds_A2[:, :1]) | (area_N > bounds_A2[:, 1:])


def _assigned(overlap_DO: np.ndarray, counted_AO: np.ndarray, crowd_O: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each detection of a class found something, and whether that is a thing that counts, (A, T, D) bool."""
    least_T1 = np.minimum(THRESHOLDS_T, 1 - 1e-10)[:, None]
    shape = (len(AREAS), len(THRESHOLDS_T), len(overlap_DO))
    matched_ATD, counts_ATD = np.zeros(shape, bool), np.zeros(shape, bool)
    if not overlap_DO.size:
        return matched_ATD, counts_ATD
    # From the last thing to the first, so that of equal ones the last is taken.
    overlap_DO, counted_A1O, crowd_O = overlap_DO[:, ::-1], counted_AO[:, None, ::-1], crowd_O[::-1]
    free_ATO = np.ones((*shape[:2], len(crowd_O)), bool)
    for place in np.flatnonzero((overlap_DO >= least_T1[0]).any(axis=1)).tolist():
        open_ATO = free_ATO & (overlap_DO[place] >= least_T1)
        first_ATO = open_ATO & counted_A1O
        sought_ATO = np.where(first_ATO.any(axis=2, keepdims=True), first_ATO, open_ATO)
        best_AT = np.where(sought_ATO, overlap_DO[place], -1.0).argmax(axis=2)
        some_AT = open_ATO.any(axis=2)
        area_M, threshold_M = np.nonzero(some_AT)
        thing_M = best_AT[area_M, threshold_M]
        matched_ATD[area_M, threshold_M, place] = True
        counts_ATD[area_M, threshold_M, place] = counted_A1O[area_M, 0, thing_M]
        free_ATO[area_M, threshold_M, thing_M] = crowd_O[thing_M]
    return matched_ATD, counts_ATD
