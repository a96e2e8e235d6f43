"""The best constant boxes, on things that can be counted by eye."""

from typing import Any

import numpy as np
import pytest

from tests.coco_reference import Scenery, made_up, things
from uniperceiver.boxes import iou
from uniperceiver.evaluation.localisation.constant_boxes import best_constant_boxes
from uniperceiver.records.regions import PictureThings

LEFT, NEAR_LEFT, RIGHT = [0, 0, 100, 100], [0, 0, 110, 100], [250, 150, 350, 250]


def test_the_box_that_most_things_overlap_comes_first() -> None:
    training = [
        things([RIGHT], [0]),
        things([LEFT, RIGHT], [0, 0]),
        things([NEAR_LEFT, LEFT], [0, 1]),
        things([[0, 0, 90, 100], [0, 0, 400, 300]], [0, 0], [False, True]),
    ]
    best = best_constant_boxes(training)
    as_pixels = best.in_picture((300, 400), ["a", "b"])
    # Three overlap on the left; all are covered after three boxes, then those that are left follow.
    assert as_pixels.boxes[0].tolist() in (LEFT, NEAR_LEFT, [0, 0, 90, 100])
    assert best.score_J.tolist() == pytest.approx([0.75, 0.75, 0.75, 0.5, 0.5, 0.25])
    assert as_pixels.labels == ["a"] * 5 + ["b"]
    assert [0, 0, 400, 300] not in as_pixels.boxes.tolist()
    three = best_constant_boxes(training, most=3).in_picture((300, 400), ["a", "b"])
    assert three.labels == ["a", "a", "b"]
    assert RIGHT in three.boxes.tolist()


def test_boxes_are_shares_of_their_pictures() -> None:
    small = things([[0, 0, 20, 30]], [0], size=(30, 40))
    best = best_constant_boxes([small, things([[0, 0, 200, 300]], [0])])
    assert best.score_J.tolist() == [1, 1]
    assert best.in_picture((60, 80), ["a"]).boxes[0].tolist() == [0, 0, 40, 60]


def test_choosing_is_greedy_as_plain_counting_is() -> None:
    training = made_up(5, Scenery(pictures=20, crowds=0.2))[1]
    best = best_constant_boxes(training, most=12)
    expected = plainly(training, 12)
    own = {(*np.round(box, 6).tolist(), label) for box, label in zip(best.box_J4, best.class_J.tolist(), strict=True)}
    assert own == expected
    assert (np.diff(best.score_J) <= 0).all()


def plainly(training: list[PictureThings], most: int) -> set[tuple[Any, ...]]:
    import torch

    all_things = [
        (tuple(box / np.array([400, 300, 400, 300])), int(label))
        for picture in training
        for box, label, crowd in zip(picture.box_O4, picture.class_O, picture.crowd_O, strict=True)  # type: ignore
        if not crowd
    ]

    def alike(first: Any, second: Any) -> bool:
        return first[1] == second[1] and float(iou(torch.tensor(first[0]), torch.tensor(second[0]))) > 0.5

    left, chosen = list(range(len(all_things))), list[int]()
    while len(chosen) < most:
        free = [place for place in range(len(all_things)) if place not in chosen]
        counts = [sum(alike(all_things[place], all_things[other]) for other in left) for place in free]
        best = free[int(np.argmax(counts))]
        chosen.append(best)
        left = [other for other in left if not alike(all_things[best], all_things[other])]
    return {(*np.round(all_things[place][0], 6).tolist(), all_things[place][1]) for place in chosen}


def test_of_many_things_a_seeded_sample_is_tried() -> None:
    training = made_up(5, Scenery(pictures=30, crowds=0))[1]
    some = best_constant_boxes(training, tried=20)
    assert len(some.box_J4) == 20
    np.testing.assert_array_equal(some.box_J4, best_constant_boxes(training, tried=20).box_J4)
    assert not np.array_equal(some.box_J4, best_constant_boxes(training, tried=20, seed=1).box_J4)
    share = 20 / sum(len(picture.class_O) for picture in training)  # type: ignore[arg-type]
    assert some.score_J[-1] * 30 * share == pytest.approx(1)


def test_without_things_there_are_no_boxes() -> None:
    for training in ([], [things([], [])], [things([LEFT], [0], [True])]):
        assert len(best_constant_boxes(training).in_picture((300, 400), ["a"])) == 0
