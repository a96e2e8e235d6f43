"""What people are shown of a picture, and what is counted in it."""

from dataclasses import replace

import numpy as np

from tests.coco_reference import SIDE, detections, things
from uniperceiver.evaluation.localisation.shown import ShownThings

NAMES = ["cat", "dog"]


def test_what_is_found_missed_and_too_many_is_counted() -> None:
    truth = things(
        [[0, 0, 10, 10], [50, 50, 90, 90], [100, 100, 120, 120], [200, 0, 300, 99]], [0, 1, 1, 0], [False] * 3 + [True]
    )
    boxes = [[0, 0, 10, 9], [0, 0, 10, 10], [50, 50, 88, 90], [100, 100, 120, 120], [210, 0, 220, 50], [0, 0, 10, 10]]
    picture = detections(boxes, [0, 0, 1, 0, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.5, 0.29], NAMES)
    shown = ShownThings.of(picture, truth)
    assert (shown.right, shown.things, shown.surplus) == (2, 3, 2)
    assert [(answer.label, answer.right) for answer in shown.answers] == [
        ("cat", True), ("cat", False), ("dog", True), ("cat", False), ("cat", None),
    ]  # fmt: skip
    assert [thing.label for thing in shown.truth or ()] == ["cat", "dog", "dog", "cat"]
    assert shown.answers[0].box == (0, 0, 10, 9)
    assert len(ShownThings.of(picture, truth, least=0.0).answers) == 6


def test_a_score_at_the_border_is_shown() -> None:
    picture = detections([[0, 0, 1, 1]] * 2, [0, 0], [0.3, 0.2999], NAMES)
    assert len(ShownThings.of(picture, things([], [])).answers) == 1


def test_without_truth_nothing_is_judged() -> None:
    picture = detections([[0, 0, 1, 1]], [0], [0.9], NAMES)
    shown = ShownThings.of(picture, replace(things([], []), box_O4=None))
    assert (shown.truth, shown.right, shown.things, shown.surplus) == (None, 0, 0, 0)
    assert shown.answers[0].right is None


def test_masks_stay_with_their_boxes() -> None:
    masks = np.zeros((3, SIDE, SIDE), bool)
    for place in range(3):
        masks[place, place, place] = True
    picture = detections([[0, 0, 2, 2]] * 3, [0] * 3, [0.9, 0.1, 0.5], NAMES, masks=masks, size=(SIDE, SIDE))
    marked = things([[0, 0, 2, 2]] * 2, [0, -1], masks=masks[1:], size=(SIDE, SIDE))
    shown = ShownThings.of(picture, marked)
    places = [np.argwhere(answer.mask_HW).tolist() for answer in (*shown.answers, *(shown.truth or ()))]
    assert places == [[[0, 0]], [[2, 2]], [[1, 1]], [[2, 2]]]
    assert [thing.label for thing in shown.truth or ()] == ["cat", ""]
