"""Pictures of a study: each arm's figures as dots, and learning curves with their extremes.

Shape suffix: P points of a curve.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from uniperceiver.report.chart import ticks
from uniperceiver.report.markup import Html, element, join, shortened
from uniperceiver.report.numbers import count, finite, is_share, written
from uniperceiver.studies.records import CurveBand, MetricRow, SeedSpread

_HUES = (258, 25, 165, 310, 85, 215, 345, 130, 285, 55)  # far from each other for the first few arms
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 320, 180, 46, 10, 8, 22
_LINE, _NAMES, _NAME = 22, 112, 17  # of dots: height of an arm, width of the names, and their most characters


def hue(arms: Sequence[str], arm: str) -> str:
    """The style attribute that gives an element of class `arm` its colour."""
    return f"--hue:{_HUES[arms.index(arm) % len(_HUES)]}"


def legend(arms: Sequence[str]) -> Html:
    """The arms with their colours."""
    return element("div", *(element("span", arm, class_="arm", style=hue(arms, arm)) for arm in arms), class_="legend")


def dots(arms: Sequence[str], row: MetricRow) -> Html:
    """A line per arm: seeds as small dots, the mean as a large one, one standard error to either side."""
    shown = {arm: row.arms[arm] for arm in arms if arm in row.arms and np.isfinite(row.arms[arm].mean)}
    low, high = _range(_numbers(shown.values()))
    bottom = _TOP + _LINE * len(shown)

    def x(value: float) -> float:
        return round(_NAMES + (_WIDTH - _NAMES - _RIGHT) * (value - low) / (high - low), 1)

    parts = []
    for value in ticks(low, high, 4):
        parts.append(element("line", class_="grid", x1=x(value), x2=x(value), y1=_TOP, y2=bottom))
        parts.append(element("text", written(value, row.metric), x=x(value), y=bottom + 15, text_anchor="middle"))
    for index, (arm, spread) in enumerate(shown.items()):
        y = _TOP + _LINE * (index + 0.5)
        error = finite(spread.error) or 0.0
        ends = {"x1": x(spread.mean - error), "x2": x(spread.mean + error)}
        seeds = (element("circle", class_="seed", cx=x(each), cy=y, r=2.6) for each in spread.seeds.values())
        parts.append(element("text", shortened(arm, _NAME), class_="who", x=_NAMES - 10, y=y, dy="0.32em"))
        parts.append(
            element(
                "g",
                element("title", f"{arm}: {value_text(spread, row.metric)}"),
                element("line", class_="whisker", y1=y, y2=y, **ends),
                *seeds,
                element("circle", class_="mean", cx=x(spread.mean), cy=y, r=4.6),
                class_="arm",
                style=hue(arms, arm),
            )
        )
    return _svg(join(*parts), bottom + 22, f"{row.task}: {row.metric} of every arm")


def value_text(spread: SeedSpread, metric: str) -> str:
    """Mean and standard error."""
    return with_error(spread.mean, spread.error, metric)


def with_error(value: float, error: float, metric: str) -> str:
    """A figure with its standard error in as many decimals, or more where it would be 0; shares as 74.2 % ± 1.3."""
    text = written(value, metric)
    if finite(error) is None:
        return text
    shown = 100 * error if is_share(metric) else error
    decimals = len(text.rstrip("\u202f%").partition(".")[2]) if "e" not in text else 0
    rounded = f"{shown:,.{decimals}f}"
    return f"{text} ± {rounded if float(rounded.replace(',', '')) or not shown else f'{shown:.1g}'}"


def lines(arms: Sequence[str], curves: Mapping[str, CurveBand], title: str) -> Html:
    """A curve per arm, with its extremes as a band."""
    low, high = _range([value for each in curves.values() for value in (*each.low_P, *each.high_P)])
    last = max(float(each.step_P[-1]) for each in curves.values())

    def x(step: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * step / last, 1)

    def y(value: float) -> float:
        return round(_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low), 1)

    def points(step_P: np.ndarray, value_P: np.ndarray) -> list[str]:
        return [f"{x(step)} {y(value)}" for step, value in zip(step_P, value_P, strict=True)]

    parts = []
    for value in ticks(low, high, 5):
        parts.append(element("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y(value), y2=y(value)))
        parts.append(element("text", f"{value:.4g}", class_="ylabel", x=_LEFT - 6, y=y(value), dy="0.32em"))
    for step in ticks(0, last, 4):
        anchor = "start" if step == 0 else "end" if x(step) > _WIDTH - 26 else "middle"
        parts.append(element("text", count(step), x=x(step), y=_HEIGHT - 6, text_anchor=anchor))
    for arm, each in curves.items():
        there = points(each.step_P, each.high_P)
        back = points(each.step_P[::-1], each.low_P[::-1])
        parts.append(
            element(
                "g",
                element("title", arm),
                element("polygon", class_="spread", points=" ".join(there + back)),
                element("path", class_="line", d="M" + "L".join(points(each.step_P, each.mean_P))),
                class_="arm",
                style=hue(arms, arm),
            )
        )
    return _svg(join(*parts), _HEIGHT, title)


def _numbers(spreads: Iterable[SeedSpread]) -> list[float]:
    """All that is drawn of some spreads."""
    found: list[float] = []
    for each in spreads:
        error = finite(each.error) or 0.0
        found += [*each.seeds.values(), each.mean - error, each.mean + error]
    return found


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis with a margin on both sides."""
    known = [value for value in values if np.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    margin = 0.07 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def _svg(inside: Html, height: float, title: str) -> Html:
    return element("svg", inside, class_="chart", viewBox=f"0 0 {_WIDTH} {height}", role="img", aria_label=title)
