"""One small chart as inline SVG: curves over steps, a level to compare with, and values where one points."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from uniperceiver.report.markup import Html, element, join
from uniperceiver.report.numbers import count, written
from uniperceiver.report.series import Series, spread_out, thinned

MOST_POINTS = 400
_HOVER_POINTS = 40
_MARKS = 30  # up to so many points get a dot of their own, and so many missing values a cross
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 320, 168, 46, 8, 10, 22


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A series and how it is drawn."""

    series: Series
    kind: Literal["raw", "line"] = "line"  # raw: faint, and cut off where it leaves the chart


@dataclass(frozen=True, kw_only=True)
class Chart:
    """What is drawn in one frame. The last curve is the one whose values are shown."""

    title: str
    metric: str  # how values are written
    curves: Sequence[Curve]
    last_step: float
    level: float | None = None  # a dashed line, such as chance
    level_name: str = ""
    from_zero: bool = False


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """Where steps and values lie on the paper."""

    right: float  # the last step
    low: float
    high: float

    def x(self, step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / self.right

    def y(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share


def draw(chart: Chart) -> Html:
    """The chart as an <svg> that takes the width of its container."""
    frame = _frame(chart)
    return element(
        "svg",
        _axes(frame, chart.metric),
        _level(chart, frame),
        join(*(_path(curve, frame) for curve in chart.curves)),
        _missing(chart, frame),
        _values(chart, frame),
        class_="chart",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=chart.title,
    )


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round values from low to high, in at most `most` steps."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * each for each in (1, 2, 2.5, 5, 10, 20) if (high - low) / (power * each) <= most + 1e-9)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _frame(chart: Chart) -> _Frame:
    values = [] if chart.level is None else [chart.level]
    for curve in chart.curves:
        value_N = curve.series.value_N[curve.series.finite_N]
        # A single spike in a raw curve would flatten everything else.
        values += np.percentile(value_N, [1, 99]).tolist() if curve.kind == "raw" and len(value_N) else value_N.tolist()
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    low = min(low, 0.0) if chart.from_zero else low
    if high - low <= 1e-9 * max(abs(high), abs(low)):
        margin = 0.1 * abs(high) or 1.0
    else:
        margin = 0.06 * (high - low)
    floor = low if chart.from_zero and low == 0 else low - margin
    return _Frame(right=max(chart.last_step, 1.0), low=floor, high=high + margin)


def _axes(frame: _Frame, metric: str) -> Html:
    parts = []
    for value in ticks(frame.low, frame.high, 5):
        y = f"{frame.y(value):.1f}"
        parts.append(element("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y))
        parts.append(element("text", _label(value, metric), class_="ylabel", x=_LEFT - 6, y=y, dy="0.32em"))
    for step in ticks(0, frame.right, 4):
        anchor = "end" if frame.x(step) > _WIDTH - 26 else "start" if step == 0 else "middle"
        x = f"{frame.x(step):.1f}"
        parts.append(element("text", _label(step, ""), x=x, y=_HEIGHT - 6, text_anchor=anchor))
    return join(*parts)


def _label(value: float, metric: str) -> str:
    text = written(value, metric).replace(".0\u202f%", "\u202f%")
    if text.endswith("%"):
        return text
    if abs(value) >= 1e6:
        return f"{value:.0e}" if abs(value) >= 1e9 else f"{value / 1e6:g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _level(chart: Chart, frame: _Frame) -> Html | None:
    if chart.level is None:
        return None
    y = frame.y(chart.level)
    above = y > _TOP + 14
    return join(
        element("line", class_="level", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}"),
        element(
            "text",
            f"{chart.level_name} {written(chart.level, chart.metric)}",
            class_="levelname",
            x=_WIDTH - _RIGHT,
            y=f"{y - 4 if above else y + 12:.1f}",
        ),
    )


def _path(curve: Curve, frame: _Frame) -> Html:
    """The curve, broken where a value is missing; single points, and the points of short curves, are dots."""
    series = thinned(curve.series, MOST_POINTS)
    commands, dots, pen_down = [], [], False
    for index, (step, value) in enumerate(zip(series.step_N, series.value_N, strict=True)):
        if not np.isfinite(value):
            pen_down = False
            continue
        x, y = f"{frame.x(step):.1f}", f"{frame.y(value):.1f}"
        commands.append(f"{'L' if pen_down else 'M'}{x} {y}")
        alone = not pen_down and not np.isfinite(series.value_N[index + 1 : index + 2]).any()
        if alone or (curve.kind == "line" and len(series) <= _MARKS):
            dots.append(element("circle", class_=f"dot {curve.kind}", cx=x, cy=y, r=2.4))
        pen_down = True
    return join(element("path", class_=curve.kind, d="".join(commands)) if commands else None, *dots)


def _missing(chart: Chart, frame: _Frame) -> Html:
    """A cross at the foot for each value that was not finite."""
    series = chart.curves[0].series if chart.curves else None
    steps = [] if series is None else series.step_N[~series.finite_N][:_MARKS]
    crosses = (
        element(
            "text",
            "×",
            element("title", f"step {count(step)}: not a finite number"),
            class_="missing",
            x=f"{frame.x(step):.1f}",
            y=_HEIGHT - _BOTTOM - 2,
        )
        for step in steps
    )
    return join(*crosses)


def _values(chart: Chart, frame: _Frame) -> Html:
    """Invisible columns over the chart; the one that is pointed at shows its point and says its value."""
    if not chart.curves:
        return join()
    points = spread_out(chart.curves[-1].series, _HOVER_POINTS)
    xs = [frame.x(step) for step in points.step_N]
    borders = [_LEFT, *((one + other) / 2 for one, other in pairwise(xs)), _WIDTH - _RIGHT]
    columns = []
    for index, (x, step, value) in enumerate(zip(xs, points.step_N, points.value_N, strict=True)):
        left, right = borders[index], borders[index + 1]
        columns.append(
            element(
                "g",
                element("title", f"step {count(step)}: {written(value, chart.metric)}"),
                element("rect", x=f"{left:.1f}", y=_TOP, width=f"{right - left:.1f}", height=_HEIGHT - _TOP - _BOTTOM),
                element("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=_TOP, y2=_HEIGHT - _BOTTOM),
                element("circle", cx=f"{x:.1f}", cy=f"{frame.y(value):.1f}", r=3.4),
                class_="at",
            )
        )
    return join(*columns)
