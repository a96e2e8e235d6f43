"""Average precision and recall equal those of pycocotools, and weights of pictures equal repeated pictures."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.coco_reference import (
    Scenery,
    coco_entries,
    coco_figures,
    coco_file,
    detections,
    made_up,
    things,
    with_masks,
)
from uniperceiver.evaluation.localisation.average_precision import METRICS, Precision, by_class, class_means, figures_of
from uniperceiver.evaluation.localisation.matching import Matches
from uniperceiver.evaluation.localisation.pictures import box_matches, filled_matches, mask_matches
from uniperceiver.records.regions import Detections, PictureThings

IDS = {"gaps": (1, 3, 90), "zero": (0, 5, 7), "falling": (7, 2, 1)}


def own_figures(matches: Sequence[Matches], classes: int) -> dict[str, float]:
    values_KM = figures_of(by_class(matches, classes), np.ones((1, len(matches))))
    return dict(zip(METRICS, class_means(values_KM)[0].tolist(), strict=True))


def assert_as_coco(
    answers: Sequence[Detections], truth: Sequence[PictureThings], ids: Sequence[int], kind: str = "bbox"
) -> dict[str, float]:
    expected = coco_figures(coco_file(truth, ids), coco_entries(answers, ids), kind)
    matches_of = box_matches if kind == "bbox" else mask_matches
    own = own_figures([matches_of(*pair) for pair in zip(answers, truth, strict=True)], len(ids))
    for name, value in own.items():
        assert (-1 if math.isnan(value) else value) == pytest.approx(expected[name], abs=1e-12), name
    return own


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    pictures=st.integers(1, 6),
    classes=st.integers(1, 3),
    tied=st.booleans(),
    crowds=st.sampled_from([0.0, 0.1, 0.5]),
    ids=st.sampled_from(sorted(IDS)),
)
def test_boxes_are_judged_as_pycocotools_does(
    seed: int, pictures: int, classes: int, tied: bool, crowds: float, ids: str
) -> None:
    scenery = Scenery(pictures=pictures, classes=classes, tied=tied, crowds=crowds)
    assert_as_coco(*made_up(seed, scenery), IDS[ids][:classes])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_masks_are_judged_as_pycocotools_does(seed: int) -> None:
    assert_as_coco(*with_masks(seed), (4, 2), "segm")


def test_the_made_up_sets_are_no_easy_ones() -> None:
    own = assert_as_coco(*made_up(3, Scenery(pictures=30, things=12)), (1, 3, 90))
    assert all(0.02 < value < 0.9 for value in own.values()), own
    assert own["ap75"] < own["ap"] < own["ap50"]


def test_more_detections_than_count() -> None:
    """The best hundred of a class in a picture, as many again of another class."""
    scenery = Scenery(pictures=3, classes=2, surplus=400, things=40)
    answers, truth = made_up(5, scenery)
    assert max(len(picture) for picture in answers) > 250
    assert_as_coco(answers, truth, (1, 2))


@pytest.mark.parametrize(("answered", "marked"), [(True, False), (False, True), (False, False)])
def test_pictures_without_detections_or_things(answered: bool, marked: bool) -> None:
    answers, truth = made_up(1, Scenery(pictures=3))
    answers[1] = answers[1] if answered else detections([], [], [], answers[1].names)
    truth[1] = truth[1] if marked else things([], [])
    assert_as_coco(answers, truth, (1, 3, 90))


def test_nothing_at_all() -> None:
    nothing = detections([], [], [], ["c0"])
    own = assert_as_coco([nothing], [things([[0, 0, 10, 10]], [0])], (1,))
    assert (own["ap"], own["ap_small"], math.isnan(own["ap_large"])) == (0, 0, True)
    own = own_figures([box_matches(nothing, things([], []))], 1)
    assert all(math.isnan(value) for value in own.values())


def test_a_class_without_things_is_left_out() -> None:
    answers, truth = made_up(2, Scenery(pictures=5, classes=2, crowds=0))
    three = [detections(a.boxes, a.classes.tolist(), a.scores.tolist(), ["c0", "c1", "c2"]) for a in answers]
    own = assert_as_coco(three, truth, (1, 2, 3))
    assert own == assert_as_coco(answers, truth, (1, 2))


def test_the_area_that_the_data_say_decides() -> None:
    """A large box may hold a thing that covers few pixels."""
    box, names = [[0, 0, 200, 200]], ["c0"]
    answers = [detections(box, [0], [0.9], names)]
    own = own_figures([box_matches(answers[0], things(box, [0], area_O=np.array([900.0])))], 1)
    assert (own["ap_small"], math.isnan(own["ap_large"])) == (1, True)


def test_a_thing_of_unknown_class_is_no_truth() -> None:
    answers = detections([[0, 0, 50, 50]], [0], [0.9], ["c0"])
    own = own_figures([box_matches(answers, things([[0, 0, 50, 50], [0, 0, 50, 50]], [-1, 0]))], 1)
    assert own["ap"] == 1


def test_things_without_a_mask_are_left_out_of_masks() -> None:
    (answers,), (truth,) = with_masks(0, pictures=1)
    assert truth.masks is not None
    assert len(truth.masks) >= 3
    some = [truth.masks[place] if place else None for place in range(len(truth.masks))]
    partly = things(truth.box_O4, truth.class_O, truth.crowd_O, masks=some, size=truth.size)  # type: ignore[arg-type]
    rest = things(truth.box_O4[1:], truth.class_O[1:], truth.crowd_O[1:], masks=truth.masks[1:], size=truth.size)  # type: ignore
    assert own_figures([mask_matches(answers, partly)], 2) == pytest.approx(
        own_figures([mask_matches(answers, rest)], 2), nan_ok=True
    )


@pytest.mark.parametrize("seed", range(4))
def test_boxes_taken_for_masks_equal_masks_that_fill_them(seed: int) -> None:
    answers, truth = with_masks(seed, pictures=6)
    for picture, marked in zip(answers, truth, strict=True):
        filled_DHW = np.zeros_like(picture.masks)
        for place, (x0, y0, x1, y1) in enumerate(np.rint(picture.boxes).astype(int)):
            filled_DHW[place, y0:y1, x0:x1] = True
        as_masks = detections(
            picture.boxes, picture.classes, picture.scores, picture.names, masks=filled_DHW, size=picture.size
        )
        expected, own = mask_matches(as_masks, marked), filled_matches(picture, marked)
        np.testing.assert_array_equal(own.right_ATD, expected.right_ATD)
        np.testing.assert_array_equal(own.ignored_ATD, expected.ignored_ATD)


def distinct(seed: int, pictures: int) -> tuple[list[Detections], list[PictureThings]]:
    """Pictures in which no two detections have equal scores; across pictures many do."""
    answers, truth = made_up(seed, Scenery(pictures=pictures, surplus=12))
    rng = np.random.default_rng(seed)
    changed = []
    for picture in answers:
        score_D = rng.permutation(200)[: len(picture)] / 200
        changed.append(detections(picture.boxes, picture.classes.tolist(), score_D.tolist(), picture.names))
    return changed, truth


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), weights=st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_a_weight_is_a_picture_so_many_times(seed: int, weights: list[int]) -> None:
    """Exactly, not nearly."""
    matches = [box_matches(*pair) for pair in zip(*distinct(seed, 5), strict=True)]
    other = np.ones(5)
    weighted_2KM = figures_of(by_class(matches, 3), np.array([weights, other]))
    repeated = [picture for picture, times in zip(matches, weights, strict=True) for _ in range(times)]
    if repeated:
        expected_1KM = figures_of(by_class(repeated, 3), np.ones((1, len(repeated))))
        np.testing.assert_array_equal(weighted_2KM[0], expected_1KM[0])
    else:
        assert np.isnan(weighted_2KM[0]).all()
    np.testing.assert_array_equal(weighted_2KM[1], figures_of(by_class(matches, 3), np.ones((1, 5)))[0])


def test_an_interval_holds_the_figure_and_knows_its_pictures() -> None:
    matches = [box_matches(*pair) for pair in zip(*made_up(7, Scenery(pictures=40)), strict=True)]
    precision = Precision.of(matches, 3)
    value, interval = precision.value("ap"), precision.interval("ap")
    assert interval.low < value < interval.high
    assert 0.02 < interval.high - interval.low < 0.4
    again = Precision.of([*matches] * 4, 3).interval("ap")
    assert again.high - again.low < 0.7 * (interval.high - interval.low)
    assert Precision.of(matches[:1], 3).interval("ap").low == -math.inf
    with pytest.raises(ValueError, match="no pictures"):
        Precision.of([], 3)


def test_intervals_do_not_depend_on_how_many_resamples_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    matches = [box_matches(*pair) for pair in zip(*made_up(7, Scenery(pictures=10)), strict=True)]
    whole = Precision.of(matches, 3).resampled_SKM
    monkeypatch.setattr("uniperceiver.evaluation.intervals._CELLS", 1500)
    np.testing.assert_array_equal(Precision.of(matches, 3).resampled_SKM, whole)
