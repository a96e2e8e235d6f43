"""Charts of interference: several lines with their intervals as bands, over depth or over training steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from uniperceiver.report.chart import ticks
from uniperceiver.report.interference_cells import Cell, signed
from uniperceiver.report.markup import Html, element, join
from uniperceiver.report.numbers import count

LIMIT = 3.0  # lines and bands beyond it are drawn at the edge: one denominator near 0 would flatten all others
_LEAST = 0.05  # the smallest reach of the upright axis
_MARKS = 60  # up to so many points get a dot of their own
T = TypeVar("T")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 320, 176, 46, 10, 10, 22


@dataclass(frozen=True, kw_only=True)
class Line:
    """One task that takes the step, as seen by the affected task."""

    name: str
    style: str  # the attribute that gives it its colour
    dashed: bool
    cells: Sequence[Cell | None]  # at each place of the chart


@dataclass(frozen=True, kw_only=True)
class _Frame:
    left: float
    right: float
    low: float
    high: float

    def x(self, place: float) -> float:
        share = 0.5 if self.right <= self.left else (place - self.left) / (self.right - self.left)
        return _LEFT + 6 + (_WIDTH - _LEFT - _RIGHT - 12) * share

    def y(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share


def draw_lines(title: str, unit: str, places: Sequence[float], lines: Sequence[Line]) -> Html:
    """The chart as an <svg> that takes the width of its container; `unit` is what a place is: "layer", "step"."""
    measured = any(each is not None and each.value is not None for line in lines for each in line.cells)
    nothing = element("text", "not measurable", x=_WIDTH / 2, y=_HEIGHT / 2, text_anchor="middle")
    return element(
        "svg",
        _drawn(unit, places, lines) if measured else nothing,
        class_="chart lines",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=title,
    )


def _drawn(unit: str, places: Sequence[float], lines: Sequence[Line]) -> Html:
    frame = _frame(places, lines)
    crowded = len(places) * len(lines) > _MARKS
    return join(
        _axes(frame, places),
        *(_band(frame, places, line) for line in lines),
        *(_line(frame, places, line, crowded) for line in lines),
        _values(frame, unit, places, lines),
    )


def _frame(places: Sequence[float], lines: Sequence[Line]) -> _Frame:
    """Room for all lines and 0; bands get at most as much again on either side."""
    cells = [cell for line in lines for cell in line.cells if cell is not None]
    values = [0.0, *(_limited(cell.value) for cell in cells if cell.value is not None)]
    reach = max(max(values) - min(values), 2 * _LEAST)
    ends = [
        _limited(end) for cell in cells if cell.value is not None for end in (cell.low, cell.high) if end is not None
    ]
    low = max(min([*values, *ends]), min(values) - reach)
    high = min(max([*values, *ends]), max(values) + reach)
    margin = max(0.06 * (high - low), _LEAST - (high - low) / 2)
    return _Frame(left=min(places), right=max(places), low=low - margin, high=high + margin)


def _limited(value: float) -> float:
    return min(max(value, -LIMIT), LIMIT)


def _axes(frame: _Frame, places: Sequence[float]) -> Html:
    parts = []
    for value in ticks(frame.low, frame.high, 5):
        y = f"{frame.y(value):.1f}"
        zero = abs(value) < 1e-9
        line = element("line", class_="level" if zero else "grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y)
        parts += [line, element("text", _upright(value), class_="ylabel", x=_LEFT - 6, y=y, dy="0.32em")]
    for place in _marked(frame, places):
        x = frame.x(place)
        anchor = "end" if x > _WIDTH - 26 and place >= 1000 else "middle"
        parts.append(element("text", _across(place), x=f"{x:.1f}", y=_HEIGHT - 6, text_anchor=anchor))
    return join(*parts)


def _marked(frame: _Frame, places: Sequence[float]) -> list[float]:
    """Places that are written under the axis: all of a few, otherwise round ones."""
    if len(places) <= 6 and max(places) < 1000:
        return list(places)
    if frame.right <= frame.left:
        return [frame.left]
    return [each for each in ticks(frame.left, frame.right, 5) if each == int(each)]


def _upright(value: float) -> str:
    return "0" if abs(value) < 1e-9 else f"{value:+.3g}".replace("-", "\u2212")


def _across(place: float) -> str:
    return f"{place / 1e6:g}M" if place >= 1e6 else f"{place / 1e3:g}k" if place >= 1e4 else count(place)


def _band(frame: _Frame, places: Sequence[float], line: Line) -> Html | None:
    """The intervals, as one shape for each stretch without a gap."""
    shapes = []
    for stretch in _stretches([_interval(each) for each in line.cells]):
        xs = [frame.x(places[index]) for index, _ in stretch]
        if len(stretch) == 1:  # a shape without width would not be seen
            xs, stretch = [xs[0] - 2, xs[0] + 2], [*stretch, *stretch]
        above = [f"{x:.1f} {frame.y(high):.1f}" for x, (_, (_, high)) in zip(xs, stretch, strict=True)]
        below = [f"{x:.1f} {frame.y(low):.1f}" for x, (_, (low, _)) in zip(xs, stretch, strict=True)]
        shapes.append(f"M{'L'.join([*above, *reversed(below)])}Z")
    return (
        element("g", element("path", class_="band", d="".join(shapes)), style=line.style, class_="task")
        if shapes
        else None
    )


def _line(frame: _Frame, places: Sequence[float], line: Line, crowded: bool) -> Html | None:
    """The line with its dots, in a crowd only those of single points; faint where no interval excludes 0."""
    drawn, dots = [], []
    for stretch in _stretches([None if each is None else each.value for each in line.cells]):
        points = [(f"{frame.x(places[index]):.1f}", f"{frame.y(value):.1f}") for index, value in stretch]
        drawn.append(f"M{'L'.join(f'{x} {y}' for x, y in points)}")
        if len(points) == 1 or not crowded:
            dots += [element("circle", class_="dot line", cx=x, cy=y, r=2.2) for x, y in points]
    if not drawn:
        return None
    path = element("path", class_="line dashed" if line.dashed else "line", d="".join(drawn))
    cells = [each for each in line.cells if _interval(each) is not None]
    unclear = bool(cells) and not any(each is not None and each.clear for each in cells)
    return element("g", path, *dots, style=line.style, class_="task unclear" if unclear else "task")


def _interval(cell: Cell | None) -> tuple[float, float] | None:
    if cell is None or cell.value is None or cell.low is None or cell.high is None:
        return None
    return cell.low, cell.high


def _stretches(found: Sequence[T | None]) -> list[list[tuple[int, T]]]:
    """What there is, with its places, cut wherever something is missing."""
    stretches: list[list[tuple[int, T]]] = [[]]
    for index, each in enumerate(found):
        if each is None:
            stretches.append([])
        else:
            stretches[-1].append((index, each))
    return [each for each in stretches if each]


def _values(frame: _Frame, unit: str, places: Sequence[float], lines: Sequence[Line]) -> Html:
    """Invisible columns over the chart; the one that is pointed at says its values."""
    columns = []
    for index, place in enumerate(places):
        x = frame.x(place)
        left = _LEFT if index == 0 else (frame.x(places[index - 1]) + x) / 2
        right = _WIDTH - _RIGHT if index == len(places) - 1 else (frame.x(places[index + 1]) + x) / 2
        said = [f"{unit} {count(place)}", *(_said(line, line.cells[index]) for line in lines)]
        columns.append(
            element(
                "g",
                element("title", "\n".join(said)),
                element("rect", x=f"{left:.1f}", y=_TOP, width=f"{right - left:.1f}", height=_HEIGHT - _TOP - _BOTTOM),
                element("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=_TOP, y2=_HEIGHT - _BOTTOM),
                class_="at",
            )
        )
    return join(*columns)


def _said(line: Line, cell: Cell | None) -> str:
    if cell is None or cell.value is None:
        return f"{line.name}: not measurable"
    ends = "" if cell.low is None or cell.high is None else f" ({signed(cell.low)} to {signed(cell.high)})"
    return f"{line.name}: {signed(cell.value)}{ends}"
