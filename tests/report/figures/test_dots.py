"""Figures of dots: values with intervals beside chance, and seeds with their means."""

import math

import numpy as np

from tests.studies.made_up import ARMS, a_row
from uniperceiver.report.figures.dots import metric_dots, seed_dots
from uniperceiver.report.figures.svg import inline
from uniperceiver.report.parts.colours import LIGHT
from uniperceiver.report.parts.numbers import MetricValue
from uniperceiver.studies.records import SeedSpread

VALUE = MetricValue(name="accuracy@1", value=0.7, low=0.6, high=0.8, chance=0.1)


def points(figure: object) -> list[list[float]]:
    return [np.asarray(line.get_xdata(), dtype=float).round(6).tolist() for line in figure.axes[0].lines]  # type: ignore[attr-defined]


def test_value_interval_and_chance_lie_where_they_should() -> None:
    figure = metric_dots({"val": VALUE}, tones=[3])
    assert [0.6, 0.8] in points(figure)
    assert [0.1, 0.1] in points(figure)
    assert [0.7] in points(figure)
    (axes,) = figure.axes
    assert axes.get_xlim() == (0, 1)
    assert [text.get_text() for text in axes.texts] == ["70.0\u202f%"]
    (dot,) = (line for line in axes.lines if line.get_marker() == "o")
    assert dot.get_color() == LIGHT.tones[3]


def test_what_is_not_known_is_not_drawn() -> None:
    nothing = MetricValue(name="accuracy@1", value=None)
    assert points(metric_dots({"val": nothing})) == [[0.0, 1.0]]
    assert [text.get_text() for text in metric_dots({"val": nothing}).axes[0].texts] == ["–"]
    assert not metric_dots({}).axes[0].lines


def test_values_that_are_no_shares_have_a_scale_of_their_own() -> None:
    large = MetricValue(name="cider_d", value=27.0, low=25.0, high=30.0, chance=2.0)
    assert metric_dots({"val": large}).axes[0].get_xlim()[1] == 1.15 * 30
    negative = MetricValue(name="matthews", value=-0.2, low=-0.3, high=-0.1)
    assert min(min(xs) for xs in points(metric_dots({"val": negative}))) == 0


def test_a_line_for_every_arm_in_order_of_the_arms() -> None:
    row = a_row("words", "val", gap=True)
    (axes,) = seed_dots({"words": row.arms}, [row.metric], ARMS).axes
    means = [line for line in axes.lines if line.get_label() in ARMS]
    assert [line.get_label() for line in means] == list(ARMS)
    assert [line.get_xdata()[0] for line in means] == [row.arms[arm].mean for arm in ARMS]
    assert [line.get_ydata()[0] for line in means] == list(range(len(ARMS)))
    seeds = [line for line in axes.lines if line.get_label() == "seeds"]
    assert [list(line.get_xdata()) for line in seeds] == [list(row.arms[arm].seeds.values()) for arm in ARMS]
    whiskers = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 2]
    np.testing.assert_allclose(whiskers[0].get_xdata(), [0.392, 0.408])
    assert "shared: 0.400 ± 0.008" in inline(axes.figure, "words")


def test_an_arm_without_a_mean_is_left_out_and_a_single_seed_has_no_whisker() -> None:
    lost = SeedSpread(mean=math.nan, error=math.nan, seeds={0: math.nan})
    single = SeedSpread(mean=0.0, error=math.nan, seeds={0: 0.0})
    (axes,) = seed_dots({"words": {"a": lost, "b": single}}, ["loss"], ["a", "b"]).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b"]
    assert "nan" not in inline(axes.figure, "words")
    (empty,) = seed_dots({"words": {"a": lost}}, ["loss"], ["a"]).axes
    assert not empty.lines
