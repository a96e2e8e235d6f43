"""Curves of interference over depth and over training."""

import math
import re

import pytest

from tests.report.made_up import TASKS, a_layer, a_measurement, a_table
from tests.report.test_interference import section
from tests.report.test_run_report import Page
from uniperceiver.report.interference_cells import cell_of, kinds_of
from uniperceiver.report.interference_chart import LIMIT


def test_one_layer_has_no_curves_over_depth() -> None:
    page = Page(section(a_measurement(layers=(a_layer(3),))))
    assert "layer 3" in page.words
    assert "Over depth" not in page.words
    assert "svg" not in page.tags


def test_curves_over_depth_leave_the_own_step_out() -> None:
    layers = tuple(a_layer(depth, matrix=a_table(0.1 * depth)) for depth in (0, 2, 5))
    text = section(a_measurement(layers=layers))
    page = Page(text)
    assert "Over depth" in page.words
    assert "Over training" not in page.words
    assert page.tags.count("svg") == len(TASKS)
    assert text.count('<path class="line') == len(TASKS) * (len(TASKS) - 1)
    assert text.count('<path class="band"') == len(TASKS) * (len(TASKS) - 1)
    titles = re.findall(r"<g><title>|<title>([^<]*)</title>", text)
    assert titles[1] == "layer 2\nwords: +0.20 (+0.00 to +0.40)\ntales: +0.20 (+0.00 to +0.40)".replace("+0.00", "0.00")
    ys = [
        float(y) for y in re.search(r'class="line" d="M[\d.]+ ([\d.]+)L[\d.]+ ([\d.]+)L[\d.]+ ([\d.]+)"', text).groups()
    ]  # type: ignore[union-attr]
    assert ys[0] > ys[1] > ys[2]  # upwards
    assert (ys[0] - ys[1]) / (ys[1] - ys[2]) == pytest.approx(2 / 3, abs=0.02)


def test_a_line_breaks_where_nothing_was_measured() -> None:
    values = (0.1, 0.2, None, 0.3, math.nan)
    layers = tuple(a_layer(depth, matrix=a_table(value)) for depth, value in enumerate(values))
    text = section(a_measurement(layers=layers))
    (path, *_) = re.findall(r'class="line" d="([^"]*)"', text)
    assert (path.count("M"), path.count("L")) == (2, 1)
    (band, *_) = re.findall(r'class="band" d="([^"]*)"', text)
    assert band.count("M") == 2
    alone = [float(x) for x in re.findall(r"([\d.]+) [\d.]+", band.split("M")[2])]
    assert max(alone) - min(alone) == pytest.approx(4)  # the single interval has a width
    assert "tales: not measurable" in text


def test_values_without_bounds_stay_on_the_paper() -> None:
    layers = (a_layer(0, matrix=a_table(1e6), high=a_table(1e9)), a_layer(1, matrix=a_table(-0.2)))
    text = section(a_measurement(layers=layers))
    places = [
        float(y) for path in re.findall(r' d="([^"]*)"', text) for y in re.findall(r"[ML][\d.]+ (-?[\d.]+)", path)
    ]
    assert 0 < min(places) <= max(places) < 176
    assert f"±{LIMIT:g}" in text
    assert {"+1", "+2", "+3"} <= set(Page(text).words)  # the axis ends there
    assert "+1e+06" in text


def test_lines_that_are_never_clear_are_faint() -> None:
    clear = (a_layer(0, low=a_table(0.1), matrix=a_table(0.3)), a_layer(1))
    assert 'class="task unclear"' not in section(a_measurement(layers=clear))
    unclear = tuple(a_layer(depth, low=a_table(-0.1), matrix=a_table(0.3)) for depth in (0, 1))
    assert section(a_measurement(layers=unclear)).count('class="task unclear"') == 6
    unknown = tuple(a_layer(depth, low=a_table(None, None), high=a_table(None, None)) for depth in (0, 1))
    assert 'class="task unclear"' not in section(a_measurement(layers=unknown))


def test_curves_over_training_of_a_shallow_and_a_deep_layer() -> None:
    measured = [
        a_measurement(step=step, layers=tuple(a_layer(depth, matrix=a_table(step / 1000)) for depth in range(3)))
        for step in (600, 200, 400)
    ]
    text = section(*measured)
    page = Page(text)
    assert {"Over training", "Layer 0", "Layer 2"} <= set(page.words)
    assert "Layer 1" not in page.words
    assert page.tags.count("svg") == 3 * len(TASKS)
    steps = re.findall(r"<title>step (\d+)\nwords: (\+[\d.]+)", text)
    assert steps == [("200", "+0.20"), ("400", "+0.40"), ("600", "+0.60")] * 2


def test_a_task_or_layer_that_came_later_leaves_a_gap() -> None:
    early = a_measurement(TASKS[:2], step=200, layers=(a_layer(0, tasks=2),))
    late = a_measurement(step=400, layers=(a_layer(0), a_layer(1)))
    assert cell_of(early, late.layers[0].name, "birds", "tales") is None
    assert cell_of(early, late.layers[1].name, "birds", "words") is None
    text = section(early, late)
    assert "step 200\nwords: +0.20 (0.00 to +0.40)\ntales: not measurable" in text
    assert "Layer 1" not in Page(text).words  # measured once only


def test_measurements_of_other_parameters_are_no_curve() -> None:
    measured = [
        a_measurement(step=step, layers=(a_layer(kind=kind),)) for step, kind in ((1, "a.weight"), (2, "b.weight"))
    ]
    assert "Over training" not in section(*measured)


def test_each_kind_of_parameters_has_its_own_curves() -> None:
    layers = [a_layer(depth, kind=kind) for depth in (1, 0) for kind in ("ffn.linear2.weight", "attention.out.weight")]
    measured = a_measurement(layers=(*layers, a_layer(None, kind="head.weight")))
    kinds = kinds_of(measured)
    assert {kind: [each.layer for each in found] for kind, found in kinds.items()} == {
        "encoder.blocks.*.ffn.linear2.weight": [0, 1],
        "encoder.blocks.*.attention.out.weight": [0, 1],
        "": [None],
    }
    page = Page(section(measured))
    assert page.words.count("Over depth") == 2
    assert {"encoder.blocks.*.attention.out.weight", "Other parameters", "head.weight"} <= set(page.words)
