"""Figures of interference over depth and over training."""

import math
import re

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from tests.report.made_up import TASKS, a_layer, a_measurement, a_table
from uniperceiver.interference.records import Interference
from uniperceiver.report.figures import interference_over_depth, interference_over_training
from uniperceiver.report.figures.interference import LIMIT
from uniperceiver.report.figures.svg import inline


def over_depth(*matrices: tuple[tuple[float | None, ...], ...], **tables: object) -> Axes:
    """The panel of the first affected task."""
    layers = tuple(a_layer(depth, matrix=matrix, **tables) for depth, matrix in enumerate(matrices))
    return interference_over_depth(a_measurement(layers=layers), layers, ["birds"]).axes[0]


def line_of(axes: Axes, task: str) -> Line2D:
    (line,) = (line for line in axes.lines if line.get_label() == task)
    return line


def test_a_panel_for_each_task_and_a_line_for_each_other() -> None:
    layers = tuple(a_layer(depth, matrix=a_table(0.1 * depth)) for depth in (0, 2, 5))
    figure = interference_over_depth(a_measurement(layers=layers))
    assert len(figure.axes) == len(TASKS)
    for axes, task in zip(figure.axes, TASKS, strict=True):
        assert {line.get_label() for line in axes.lines} & set(TASKS) == set(TASKS) - {task}
    line = line_of(figure.axes[0], "words")
    np.testing.assert_array_equal(line.get_xdata(), [0, 2, 5])
    np.testing.assert_allclose(line.get_ydata(), [0, 0.2, 0.5])
    assert {text.get_text() for text in figure.texts} == (
        {f"{task} is affected" for task in TASKS} | {f"step of {task}" for task in TASKS}
    )


def test_the_band_is_the_interval() -> None:
    axes = over_depth(a_table(0.2), a_table(0.3), low=a_table(0.0), high=a_table(0.4))
    outline_N2 = axes.patches[0].get_xy()  # type: ignore[attr-defined]
    assert (outline_N2[:, 1].min(), outline_N2[:, 1].max()) == (0.0, 0.4)
    assert len(axes.patches) == 2


def test_a_place_says_its_values() -> None:
    axes = over_depth(a_table(0.1), a_table(0.2))
    titles = re.findall("<title>([^<]*)</title>", inline(axes.figure, ""))  # type: ignore[arg-type]
    assert titles[1] == "layer 1\nwords: +0.20 (0.00 to +0.40)\ntales: +0.20 (0.00 to +0.40)"


def test_a_line_breaks_where_nothing_was_measured() -> None:
    axes = over_depth(*map(a_table, (0.1, 0.2, None, 0.3, math.nan)))
    np.testing.assert_array_equal(line_of(axes, "words").get_ydata(), [0.1, 0.2, np.nan, 0.3, np.nan])
    bands = [patch.get_xy() for patch in axes.patches]  # type: ignore[attr-defined]
    assert len(bands) == 2 * 2  # two stretches of two lines
    assert 0 < np.ptp(bands[1][:, 0]) < 0.1  # the single interval has a width
    assert "tales: not measurable" in inline(axes.figure, "")  # type: ignore[arg-type]


def test_nothing_measurable_is_said() -> None:
    axes = over_depth(a_table(None), a_table(None))
    assert [text.get_text() for text in axes.texts] == ["not measurable"]
    assert not axes.lines


def test_values_without_bounds_stay_on_the_paper() -> None:
    layers = (a_layer(0, matrix=a_table(1e6), high=a_table(1e9)), a_layer(1, matrix=a_table(-0.2)))
    (axes,) = interference_over_depth(a_measurement(layers=layers), layers, ["birds"]).axes
    low, high = axes.get_ylim()
    assert LIMIT <= high < 2 * LIMIT
    for line in axes.lines:
        assert np.nanmax(line.get_ydata(), initial=0.0) <= high
    assert "+1e+06" in inline(axes.figure, "")  # type: ignore[arg-type]
    assert [label.get_text() for label in axes.get_yticklabels()][-1] == "+3"
    assert low < 0


@pytest.mark.parametrize(("low", "faint"), [(0.1, False), (-0.1, True), (None, False)])
def test_lines_that_are_never_clear_are_faint(low: float | None, faint: bool) -> None:
    high = None if low is None else 0.4
    axes = over_depth(a_table(0.3), a_table(0.3), low=a_table(low, low), high=a_table(high, high))
    assert (line_of(axes, "words").get_alpha() < 1) == faint


def test_the_lines_of_the_fifth_task_on_are_dashed() -> None:
    tasks = tuple("abcdef")
    layers = tuple(a_layer(depth, tasks=6) for depth in range(2))
    (axes,) = interference_over_depth(a_measurement(tasks, layers=layers), layers, ["a"]).axes
    assert {task: line_of(axes, task).is_dashed() for task in tasks[1:]} == (
        {"b": False, "c": False, "d": False, "e": True, "f": True}
    )


def three_measurements() -> list[Interference]:
    return [
        a_measurement(step=step, layers=tuple(a_layer(depth, matrix=a_table(step / 1000)) for depth in range(3)))
        for step in (200, 400, 600)
    ]


def test_over_training_a_line_has_a_point_for_each_measurement() -> None:
    measurements = three_measurements()
    figure = interference_over_training(measurements, measurements[0].layers[2])
    line = line_of(figure.axes[0], "words")
    np.testing.assert_array_equal(line.get_xdata(), [200, 400, 600])
    np.testing.assert_allclose(line.get_ydata(), [0.2, 0.4, 0.6])


def test_a_task_or_layer_that_came_later_leaves_a_gap() -> None:
    early = a_measurement(TASKS[:2], step=200, layers=(a_layer(0, tasks=2),))
    late = a_measurement(step=400, layers=(a_layer(0), a_layer(1)))
    figure = interference_over_training([early, late], late.layers[0], ["birds"])
    np.testing.assert_array_equal(line_of(figure.axes[0], "tales").get_ydata(), [np.nan, 0.2])
    assert "step 200\nwords: +0.20 (0.00 to +0.40)\ntales: not measurable" in inline(figure, "")
    never = interference_over_training([early], late.layers[1], ["birds"])
    assert [text.get_text() for text in never.axes[0].texts] == ["not measurable"]
