"""Figures of curves: the right points, chance, gaps; and a figure for any values."""

import dataclasses

import numpy as np
import pytest

from tests.studies.made_up import ARMS, METRICS, a_band
from uniperceiver.report.figures.curves import MOST_POINTS, LearningCurve, band_curves, learning_curves
from uniperceiver.report.figures.svg import inline
from uniperceiver.report.parts.colours import LIGHT
from uniperceiver.report.parts.series import Series


def series(*values: float) -> Series:
    return Series(step_N=np.arange(len(values), dtype=float), value_N=np.array(values, dtype=float))


def a_curve(*values: float, **changes: object) -> LearningCurve:
    return dataclasses.replace(LearningCurve(name="birds", metric="loss", series=series(*values)), **changes)  # type: ignore[arg-type]


def test_a_line_has_the_points_of_its_series_and_the_colour_of_its_task() -> None:
    (axes,) = learning_curves([a_curve(3, 2, 1.5, tone=2)]).axes
    line = axes.lines[0]
    np.testing.assert_array_equal(line.get_xdata(), [0, 1, 2])
    np.testing.assert_array_equal(line.get_ydata(), [3, 2, 1.5])
    assert line.get_color() == LIGHT.tones[2]


def test_chance_is_a_dashed_line_over_a_panel_that_begins_at_0() -> None:
    (axes,) = learning_curves([a_curve(0.3, 0.5, metric="accuracy@1", chance=0.25)]).axes
    assert any(list(line.get_ydata()) == [0.25, 0.25] and line.is_dashed() for line in axes.lines)
    assert [text.get_text() for text in axes.texts] == ["chance 25.0\u202f%"]
    assert axes.get_ylim()[0] == 0


def test_a_long_noisy_curve_is_smoothed_with_its_values_behind() -> None:
    values = np.random.default_rng(0).normal(2, 0.3, 60)
    noisy, plain = (learning_curves([a_curve(*values, noisy=flag)]).axes[0].lines for flag in (True, False))
    assert np.std(noisy[1].get_ydata()) < 0.5 * np.std(noisy[0].get_ydata())
    np.testing.assert_array_equal(plain[0].get_ydata(), values)
    short = learning_curves([a_curve(*values[:8], noisy=True)]).axes[0].lines
    np.testing.assert_array_equal(short[0].get_ydata(), values[:8])


@pytest.mark.parametrize(("held_out", "side"), [((2.5, 1.8), "bottom"), ((2.5, 1.2), "top")])
def test_values_on_held_out_data_are_a_second_line_with_its_name(held_out: tuple[float, ...], side: str) -> None:
    (axes,) = learning_curves([a_curve(3, 2, 1.5, beside=series(*held_out))]).axes
    (line,) = (line for line in axes.lines if list(line.get_ydata()) == list(held_out))
    assert line.get_color() == LIGHT.ink
    (name,) = axes.texts
    assert (name.get_text(), name.get_va(), name.xy) == ("val", side, (1.0, held_out[-1]))


def test_a_high_loss_on_held_out_data_is_in_the_panel() -> None:
    (axes,) = learning_curves([a_curve(3, 2, 1.5, beside=series(4, 9))]).axes
    assert axes.get_ylim()[1] > 9


def test_a_gap_breaks_the_line_and_is_marked() -> None:
    figure = learning_curves([a_curve(1, 2, np.nan, 3)])
    text = inline(figure, "birds")
    assert [mark.get_text() for mark in figure.axes[0].texts] == ["×"]
    (line,) = (path for path in text.split("<path") if "stroke-width:2" in path and 'd="M' in path)
    assert (line.split("style")[0].count("M"), line.split("style")[0].count("L")) == (2, 1)
    assert "step 3: 3.000" in text
    assert "step 2:" not in text


def test_long_curves_are_thinned() -> None:
    values = np.random.default_rng(0).normal(size=5000)
    lines = learning_curves([a_curve(*values, noisy=True)]).axes[0].lines
    assert max(len(line.get_xdata()) for line in lines) <= MOST_POINTS + 1


@pytest.mark.parametrize(
    "values", [(), (np.nan,), (2.0,), (0.0, 0.0), (1e29, -1e29), (1.0, np.nan, 2.0), (1e-300, 0.0), (5.0, 5.0 + 1e-14)]
)
@pytest.mark.parametrize("chance", [None, 0.1])
def test_any_values_give_a_figure_without_strange_coordinates(values: tuple[float, ...], chance: float | None) -> None:
    text = inline(learning_curves([a_curve(*values, chance=chance)]), "birds")
    assert "nan" not in text
    assert "inf" not in text


def test_panels_have_titles_only_where_the_figure_stands_alone() -> None:
    curves = [a_curve(1, 2), a_curve(2, 1), a_curve(2, 3), a_curve(1, 1)]
    alone = learning_curves(curves)
    assert [text.get_text() for text in alone.texts] == ["birds · loss"] * 4
    assert not learning_curves(curves[:1], titles=False).texts
    places = [axes.get_position() for axes in alone.axes]
    assert len({round(place.y0, 6) for place in places}) == 2  # three panels side by side, one below


def test_a_band_reaches_from_the_lowest_to_the_highest() -> None:
    band = a_band(1.0)
    (axes,) = band_curves({"words": {"shared": band}}, ["shared"]).axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), band.mean_P)
    outline_N2 = axes.patches[0].get_xy()
    assert outline_N2[:, 1].min() == band.low_P.min()
    assert outline_N2[:, 1].max() == band.high_P.max()


def test_arms_keep_their_colours_where_some_are_missing() -> None:
    curves = {task: {arm: a_band(0.1 * place) for place, arm in enumerate(ARMS)} for task in METRICS}
    del curves["words"]["shared"]
    figure = band_curves(curves, ARMS)
    colours = [
        {line.get_label(): line.get_color() for line in axes.lines if line.get_visible()} for axes in figure.axes
    ]
    assert len(colours[0]) == len(ARMS)
    assert len(colours[1]) == len(ARMS) - 1
    assert all(colours[1][arm] == colours[0][arm] for arm in colours[1])
    assert {text.get_text() for text in figure.texts} == {*METRICS, *ARMS}  # titles and legend
    assert "step 4,000" in inline(figure, "")
