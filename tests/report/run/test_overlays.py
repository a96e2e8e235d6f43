"""What lies over pictures in which things were found."""

import numpy as np

from tests.coco_reference import detections, things, with_masks
from tests.report.html import EVIL, Page, assert_harmless
from tests.report.made_up import a_picture, a_report, some_examples
from uniperceiver.evaluation.examples import Example
from uniperceiver.evaluation.localisation.shown import ShownThings
from uniperceiver.palette import class_tone
from uniperceiver.report.run.examples import example_groups
from uniperceiver.report.run.overlays import class_keys, overlay_of, tally
from uniperceiver.report.run.page import render_run

TRUTH = things([[4, 4, 20, 20], [30, 10, 60, 40]], [0, 9], size=(48, 64))
FOUND = detections([[4, 4, 20, 19], [0, 30, 9, 48]], [0, 1], [0.9, 0.4], list("abcdefghij"), size=(48, 64))
SHOWN = ShownThings.of(FOUND, TRUTH)


def an_example(shown: ShownThings, **changes: str) -> Example:
    frame = np.zeros((*shown.size, 3), np.uint8)
    values = {"task": "cells", "split": "val", "sample": "a/b.png", **changes}
    return Example(frames=(frame,), things=shown, **values)  # type: ignore[arg-type]


def test_the_best_answer_lies_on_top_of_everything() -> None:
    overlay = overlay_of(SHOWN)
    assert [(shape.title, shape.marked) for shape in overlay.shapes] == [
        ("marked: a", True), ("marked: j", True), ("b 0.40 ✗", False), ("a 0.90 ✓", False),
    ]  # fmt: skip
    assert [shape.colour for shape in overlay.shapes] == [class_tone(place) for place in (0, 9, 1, 0)]
    last = overlay.shapes[-1]
    assert (last.x, last.y, last.width, last.height, last.path) == (4, 4, 16, 15, "")
    assert (overlay.width, overlay.height, overlay.tally) == (64, 48, "found 1 of 2, 1 too many")


def test_pictures_are_counted_together() -> None:
    complete = ShownThings.of(detections([[4, 4, 20, 20]], [0], [0.9], ["a"]), things([[4, 4, 20, 20]], [0]))
    assert (tally([complete]), overlay_of(complete).complete, overlay_of(SHOWN).complete) == (
        "found 1 of 1",
        True,
        False,
    )
    empty = ShownThings.of(detections([], [], [], ["a"]), things([], []))
    assert (tally([empty]), overlay_of(empty).complete) == ("nothing there", True)
    assert tally([SHOWN, complete, empty]) == "found 2 of 3, 1 too many"
    unknown = ShownThings(size=(9, 9), answers=SHOWN.answers, truth=None)
    assert (tally([unknown]), overlay_of(unknown).tally, overlay_of(unknown).complete) == ("", "", False)


def test_a_legend_has_the_classes_that_are_seen() -> None:
    keys, more = class_keys([SHOWN])
    assert [(key.name, key.colour) for key in keys] == [(n, class_tone(p)) for n, p in (("a", 0), ("b", 1), ("j", 9))]
    many = detections([[0, 0, 9, 9]] * 40, range(40), [0.9] * 40, [str(place) for place in range(40)])
    keys, hidden = class_keys([ShownThings.of(many, things([], []))])
    assert (more, len(keys), hidden) == (0, 12, 28)


def test_masks_become_paths() -> None:
    (picture,), (truth,) = with_masks(0, pictures=1)
    shown = ShownThings.of(picture, truth)
    overlay = overlay_of(shown)
    assert all(shape.path.startswith("M") for shape in overlay.shapes)
    page = Page(render_run(a_report(("cells",), lines=3, examples=[an_example(shown)])))
    assert page.count("class", "outlined") == len(overlay.shapes)


def test_the_page_shows_boxes_over_the_picture() -> None:
    report = a_report(("cells", "birds"), lines=3, examples=[an_example(SHOWN), *some_examples("birds")])
    cells, birds = example_groups(report)
    assert (cells.tally, birds.tally, len(cells.keys), len(birds.keys)) == (
        "found 1 of 2, 1 too many",
        "1 of 2 right",
        3,
        0,
    )
    page = Page(render_run(report))
    assert page.attributes.count(("viewbox", "0 0 64 48")) == 1
    assert (page.count("class", "marked"), page.count("class", "found")) == (2, 2)
    assert {"marked: j", "a 0.90 ✓", "found 1 of 2, 1 too many"} <= set(page.words)
    assert page.text.count("picture left out") == 0


def test_hostile_names_do_no_harm() -> None:
    shown = ShownThings.of(detections([[0, 0, 9, 9]], [0], [0.9], [EVIL], size=(48, 48)), things([], [], size=(48, 48)))
    example = an_example(shown, sample=EVIL)
    assert_harmless(render_run(a_report(("cells",), lines=3, examples=[example])))


def test_pictures_with_things_are_larger() -> None:
    large = ShownThings(size=(900, 900), answers=(), truth=())
    example = Example(task="cells", split="val", sample="x", frames=(a_picture(900),), things=large)
    (group,) = example_groups(a_report(("cells",), lines=3, examples=[example]))
    (shown,) = group.examples
    assert shown.picture is not None
    assert shown.picture.width == 480
