"""The section of classes: which class was taken for which, and figures class by class."""

import dataclasses
import json
from typing import Any

import numpy as np

from tests.report.html import EVIL, Page, assert_harmless
from uniperceiver.evaluation.predictions import ClassPrecision, ClassTable
from uniperceiver.report.figures.confusion import MOST_CLASSES, confusion_map
from uniperceiver.report.run.classes import (
    class_figures,
    class_groups,
    class_precisions,
    class_rows,
    class_tables,
    found_groups,
)
from uniperceiver.report.run.page import render_run
from uniperceiver.report.run.records import RunReport

CONFUSION_KK = np.array([[6, 2, 0, 0], [1, 3, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0]])
TABLE = ClassTable.of(["owl", "wren", "crow", "absent"], CONFUSION_KK)


def small(**changes: Any) -> RunReport:
    """A report without curves and examples."""
    return RunReport(title="demo", **changes)


def test_figures_of_classes_by_hand() -> None:
    rows = class_rows(TABLE)
    assert [(row.name, row.samples, row.recall, row.precision, row.taken_for) for row in rows] == [
        ("crow", 4, 0.0, None, "wren"),
        ("owl", 8, 6 / 8, 6 / 7, "wren"),
        ("wren", 4, 3 / 4, 3 / 9, "owl"),
    ]
    assert [row.f1 for row in rows] == [0.0, 12 / 15, 6 / 13]


def test_the_page_shows_the_held_out_split() -> None:
    train = ClassTable.of(["secret"], np.array([[3]]))
    text = Page(render_run(small(classes={"birds": {"train": train, "val": TABLE}}))).text
    assert "owl" in text
    assert "secret" not in text
    assert "3 classes in figures" in text
    assert_harmless(render_run(small(classes={EVIL: {EVIL: ClassTable.of([EVIL] * 4, CONFUSION_KK)}})))
    assert class_groups(small()) == []


def test_of_many_classes_those_that_are_confused_are_shown() -> None:
    confusion_KK = np.diag(np.full(300, 5))
    confusion_KK[7, 250] = 3
    names = [f"class {place}" for place in range(300)]
    (axes,) = confusion_map(names, confusion_KK).axes
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert len(shown) == MOST_CLASSES
    assert {"class 7", "class 250"} <= set(shown)
    assert "38" in {text.get_text() for text in axes.texts}  # 3 of 8
    (group,) = class_groups(small(classes={"birds": {"val": ClassTable.of(names, confusion_KK)}}))
    assert (len(group.rows), group.total, group.rows[0].name) == (50, 300, "class 7")


def test_results_without_classes_have_no_tables() -> None:
    assert class_tables({"tasks": {}}) == {}
    values = {"names": list(TABLE.names), "counts": [list(cell) for cell in TABLE.counts]}
    assert class_tables({"tasks": {}, "classes": {"birds": {"val": values}}}) == {"birds": {"val": TABLE}}
    assert list(class_figures(small(classes={"my birds": {"val": TABLE}}))) == ["confusion_my_birds"]


def test_tasks_whose_names_would_be_one_file_name_keep_a_figure_each() -> None:
    tasks = ("work/life", "work?life", "Work life", "work_life_", "life")
    figures = class_figures(small(classes={task: {"val": TABLE} for task in tasks}))
    plain = ("work_life", "work_life_", "Work_life__", "work_life___", "life")
    assert list(figures) == [f"confusion_{name}" for name in plain]


PRECISION = ClassPrecision(
    names=("owl", "wren", "absent"),
    things=(8, 3, 0),
    figures={
        "ap": (0.5, 0.25, None),
        "ap_low": (0.4, None, None),
        "ap_high": (0.6, None, None),
        "ap50": (0.75, 0.5, None),
    },
)


def test_things_are_listed_by_how_well_they_are_found() -> None:
    (group,) = found_groups(small(precision={"birds": {"train": PRECISION, "val": PRECISION}}))
    assert (group.split, group.metrics, group.total) == ("val", ["ap", "ap50"], 2)
    assert [(row.name, row.things) for row in group.rows] == [("wren", 3), ("owl", 8)]
    wren, owl = group.rows
    assert [(value.value, value.low, value.high) for value in owl.values] == [(0.5, 0.4, 0.6), (0.75, None, None)]
    assert wren.values[0].low is None
    page = Page(render_run(small(precision={"birds": {"val": PRECISION}})))
    assert {"Things", "owl", "0.750", "0.400 – 0.600"} <= set(page.words)
    assert "absent" not in page.words
    names = tuple(f"{EVIL} {place}" for place in range(70))
    many = ClassPrecision(names=names, things=(1,) * 70, figures={"ap": (0.5,) * 70})
    text = render_run(small(precision={EVIL: {EVIL: many}}))
    assert_harmless(text)
    assert "and 20 more classes" in Page(text).words


def test_results_hold_what_was_found_of_each_class() -> None:
    assert class_precisions({"tasks": {}}) == {}
    values = json.loads(json.dumps(dataclasses.asdict(PRECISION)))
    assert class_precisions({"tasks": {}, "precision": {"birds": {"val": values}}}) == {"birds": {"val": PRECISION}}
