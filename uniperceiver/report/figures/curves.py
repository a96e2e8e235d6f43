"""Figures of curves over training steps: a run's values with chance, and the bands of a study's arms.

Shape suffix: P points of a curve.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from uniperceiver.report.figures.canvas import TEXT, Box, Key, drawn, grid, mark_steps, mark_values, tip
from uniperceiver.report.parts.colours import LIGHT, TONES
from uniperceiver.report.parts.numbers import count, shortened, tick_label, ticks, written
from uniperceiver.report.parts.series import Series, smoothed, spread_out, thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POINTS = 400  # of a line that is drawn
_TIPS = 40  # points of a curve that say their value
_MARKS = 30  # up to so many points get a dot of their own, and so many missing values a cross
_NOISY = 12  # shorter curves are drawn as they are
_BOX = Box(width=320, height=168)
_NAME = 34  # most characters of a title


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """Holds values of a metric over the steps of a run."""

    name: str  # of a task, say
    metric: str  # how values are written
    series: Series
    tone: int = 0  # place in the palette
    chance: float | None = None
    noisy: bool = False  # smoothed where it is long, with the values faint behind
    beside: Series | None = None  # the same on data that are held out, drawn dark with dots

    @property
    def line(self) -> Series:
        """The curve that is drawn: smoothed if it is noisy and not short."""
        if not self.noisy or self.series.finite_N.sum() <= _NOISY:
            return self.series
        return smoothed(self.series, half_life=max(1.5, len(self.series) / 40))


class MeanBand(Protocol):
    """A curve with its extremes, over P steps."""

    @property
    def step_P(self) -> np.ndarray: ...
    @property
    def mean_P(self) -> np.ndarray: ...
    @property
    def low_P(self) -> np.ndarray: ...
    @property
    def high_P(self) -> np.ndarray: ...


@drawn
def learning_curves(
    curves: Sequence[LearningCurve], *, last_step: float | None = None, columns: int = 3, titles: bool = True
) -> "Figure":
    """Draw every curve in a panel of its own, chance as a dashed line.

    Args:
        last_step: where all panels end; None: each at the last step of its curve.
        titles: the names of the curves above them, for a figure that stands alone.

    Example:
        >>> import numpy as np
        >>> from uniperceiver.figures import LearningCurve, Series, learning_curves
        >>> series = Series(step_N=np.arange(4.0), value_N=np.array([0.1, 0.4, 0.6, 0.7]))
        >>> figure = learning_curves([LearningCurve(name="shapes", metric="accuracy@1", series=series, chance=0.1)])
        >>> [text.get_text() for text in figure.texts]
        ['shapes · accuracy@1']
    """
    names = [shortened(f"{curve.name} · {curve.metric}", _NAME) if titles else "" for curve in curves]
    figure, panels = grid(names, _BOX, columns=columns)
    for axes, curve in zip(panels, curves, strict=True):
        last = float(curve.series.step_N[-1]) if last_step is None and len(curve.series) else last_step
        _draw(axes, curve, max(last or 0.0, 1.0))
    return figure


def _draw(axes: "Axes", curve: LearningCurve, last_step: float) -> None:
    line = curve.line
    low, high = _reach(curve, line)
    axes.set(xlim=(0, last_step), ylim=(low, high))
    values, steps = ticks(low, high, 5), ticks(0, last_step, 4)
    mark_values(axes, values, [tick_label(value, curve.metric) for value in values])
    mark_steps(axes, steps, [tick_label(step) for step in steps])
    colour = LIGHT.tones[curve.tone % TONES]
    if line is not curve.series:
        _line(axes, thinned(curve.series, MOST_POINTS), low, high, color=colour, linewidth=1, alpha=0.28)
    shown = thinned(line, MOST_POINTS)
    _line(axes, shown, low, high, color=colour, linewidth=2, label=curve.name)
    if curve.beside is not None:
        _beside(axes, thinned(curve.beside, MOST_POINTS), line, low, high)
    alone_N = shown.finite_N if len(shown) <= _MARKS else shown.finite_N & _lonely(shown.finite_N)
    if alone_N.any():
        axes.plot(
            shown.step_N[alone_N], shown.value_N[alone_N], "o", color=colour, markersize=4.8, mew=0, clip_on=False
        )
    if curve.chance is not None:
        _level(axes, curve.chance, f"chance {written(curve.chance, curve.metric)}")
    for step in curve.series.step_N[~curve.series.finite_N][:_MARKS]:
        axes.text(step, low, "×", color=LIGHT.bad, fontsize=13, fontweight="bold", ha="center", va="bottom")
    points = spread_out(line, _TIPS)
    (hidden,) = axes.plot(points.step_N, points.value_N, color=colour, visible=False)
    tip(
        hidden,
        [
            f"step {count(step)}: {written(value, curve.metric)}"
            for step, value in zip(points.step_N, points.value_N, strict=True)
        ],
    )


def _beside(axes: "Axes", held_out: Series, line: Series, low: float, high: float) -> None:
    """The values on held-out data, whose last point has their name, on the side where the line is not."""
    _line(axes, held_out, low, high, color=LIGHT.ink, linewidth=1.4, alpha=0.75, marker="o", markersize=3.6, mew=0)
    points, trained_N = held_out.at(held_out.finite_N), line.value_N[line.finite_N]
    if len(points):
        step, value = float(points.step_N[-1]), float(np.clip(points.value_N[-1], low, high))
        above = not len(trained_N) or value >= trained_N[-1]
        axes.annotate(
            "val",
            (step, value),
            (-2, 5 if above else -5),
            textcoords="offset points",
            ha="right",
            va="bottom" if above else "top",
            fontsize=TEXT,
            color=LIGHT.ink,
        )


def _reach(curve: LearningCurve, line: Series) -> tuple[float, float]:
    """The ends of the upright axis: room for the line and for chance, and from 0 where there is chance."""
    values = [] if curve.chance is None else [curve.chance, 0.0]
    for series in (line, *(() if curve.beside is None else (curve.beside,))):
        values += series.value_N[series.finite_N].tolist()
    raw_N = curve.series.value_N[curve.series.finite_N]
    if line is not curve.series and len(raw_N):
        values += np.percentile(raw_N, [1, 99]).tolist()  # a single spike would flatten everything else
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    level = high - low <= 1e-9 * max(abs(high), abs(low))
    margin = (0.1 * abs(high) or 1.0) if level else 0.06 * (high - low)
    return (low if curve.chance is not None and low == 0 else low - margin), high + margin


def _line(axes: "Axes", series: Series, low: float, high: float, **style: Any) -> None:
    """The line, broken where a value is missing, and cut off where it leaves the panel."""
    value_N = np.clip(series.value_N, low, high)
    axes.plot(series.step_N, value_N, solid_capstyle="round", solid_joinstyle="round", clip_on=False, **style)


def _lonely(finite_N: np.ndarray) -> np.ndarray:
    """Points with no neighbour, of which a line shows nothing."""
    padded = np.concatenate([[False], finite_N, [False]])
    lonely_N: np.ndarray = ~padded[:-2] & ~padded[2:]
    return lonely_N


def _level(axes: "Axes", value: float, name: str) -> None:
    low, high = axes.get_ylim()
    axes.axhline(value, color=LIGHT.ink, linewidth=1.2, linestyle=(0, (3.3, 2.5)), alpha=0.7, clip_on=False)
    above = value < low + 0.85 * (high - low)
    axes.annotate(
        name,
        (1, value),
        xycoords=("axes fraction", "data"),
        xytext=(0, 4 if above else -4),
        textcoords="offset points",
        ha="right",
        va="bottom" if above else "top",
        fontsize=TEXT,
        color=LIGHT.soft,
    )


@drawn
def band_curves(
    panels: Mapping[str, Mapping[str, MeanBand]], names: Sequence[str], *, columns: int = 3, titles: bool = True
) -> "Figure":
    """Draw learning curves over seeds: in every panel a line for each arm, in a band from the lowest to the highest.

    Args:
        panels: of each panel, such as a task, the arms' curves.
        names: all arms, which gives them their colours.
        titles: names of the panels and of the arms, for a figure that stands alone.

    Example:
        >>> import numpy as np
        >>> from types import SimpleNamespace
        >>> from uniperceiver.figures import band_curves
        >>> loss_P = np.array([3.0, 2.0, 1.5])
        >>> band = SimpleNamespace(step_P=np.arange(3.0), mean_P=loss_P, low_P=0.9 * loss_P, high_P=1.1 * loss_P)
        >>> figure = band_curves({"shapes": {"shared": band}}, ["shared"])
        >>> figure.axes[0].lines[0].get_ydata().tolist()
        [3.0, 2.0, 1.5]
    """
    legend = [Key(name=name, tone=place % TONES, dashed=place >= TONES) for place, name in enumerate(names)]
    figure, grid_axes = grid(
        [shortened(title, _NAME) if titles else "" for title in panels],
        Box(width=320, height=180),
        columns=columns,
        legend=legend if titles else (),
    )
    for axes, curves in zip(grid_axes, panels.values(), strict=True):
        _draw_bands(axes, curves, names)
    return figure


def _draw_bands(axes: "Axes", curves: Mapping[str, MeanBand], names: Sequence[str]) -> None:
    value_M = np.concatenate([np.concatenate([band.low_P, band.high_P]) for band in curves.values()])
    value_M = value_M[np.isfinite(value_M)] if np.isfinite(value_M).any() else np.array([0.0, 1.0])
    low, high = value_M.min(), value_M.max()
    margin = 0.07 * (high - low) or 0.1 * abs(high) or 1.0
    last = max(float(band.step_P[-1]) for band in curves.values())
    axes.set(xlim=(0, max(last, 1.0)), ylim=(low - margin, high + margin))
    values, steps = ticks(low - margin, high + margin, 5), ticks(0, max(last, 1.0), 4)
    mark_values(axes, values, [tick_label(value) for value in values])
    mark_steps(axes, steps, [tick_label(step) for step in steps])
    for name, band in curves.items():
        place = list(names).index(name)
        colour = LIGHT.tones[place % TONES]
        outline = np.concatenate([band.low_P, band.high_P[::-1]])
        axes.fill(
            np.concatenate([band.step_P, band.step_P[::-1]]),
            outline,
            color=colour,
            alpha=0.14,
            linewidth=0,
            clip_on=False,
        )
        style = "-" if place < TONES else (0, (4, 2))
        axes.plot(band.step_P, band.mean_P, color=colour, linewidth=2, linestyle=style, label=name, clip_on=False)
    longest = max(curves.values(), key=lambda band: len(band.step_P))
    step_P = longest.step_P[np.unique(np.linspace(0, len(longest.step_P) - 1, _TIPS).round().astype(int))]
    (hidden,) = axes.plot(step_P, np.full(len(step_P), np.nan), color=LIGHT.soft, visible=False)
    tip(
        hidden,
        [
            "\n".join(
                [f"step {count(step)}"]
                + [f"{name}: {written(np.interp(step, band.step_P, band.mean_P))}" for name, band in curves.items()]
            )
            for step in step_P
        ],
    )
