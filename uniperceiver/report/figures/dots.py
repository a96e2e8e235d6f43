"""Figures of dots: a value with its interval beside chance, and an arm's seeds with their mean."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from uniperceiver.report.figures.canvas import LETTER, Box, drawn, grid, mark_steps, tip
from uniperceiver.report.parts.colours import LIGHT, TONES
from uniperceiver.report.parts.numbers import (
    MetricValue,
    finite,
    is_share,
    short_names,
    tick_label,
    ticks,
    with_error,
    written,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE = 22  # the height of a line of dots
_NAME = 17  # most characters of a line's name


class SeedValues(Protocol):
    """A value over seeds: their mean, its standard error (NaN with a single seed), and each seed's value."""

    @property
    def mean(self) -> float: ...
    @property
    def error(self) -> float: ...
    @property
    def seeds(self) -> Mapping[int, float]: ...


@drawn
def metric_dots(
    values: Mapping[str, MetricValue],
    *,
    tones: Sequence[int] | None = None,
    right: float | None = None,
    axis: bool = True,
) -> "Figure":
    """Draw every value as a dot on a line of its own, with its 95 % interval as a band and chance as an upright mark.

    Args:
        values: by the names of the lines: splits of a task, or tasks.
        tones: of each line its colour's place in the palette; None: in order.
        right: where all lines end; None: 1 for shares, else somewhat more than the largest value.
        axis: numbers below the lines.

    Example:
        >>> from uniperceiver.figures import MetricValue, metric_dots
        >>> value = MetricValue(name="accuracy@1", value=0.7, low=0.6, high=0.8, chance=0.1)
        >>> figure = metric_dots({"shapes": value})
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['shapes']
    """
    right = scale_of(list(values.values())) if right is None else right
    names = short_names(list(values), _NAME)
    left = 12 + LETTER * max(map(len, names), default=0)
    bottom = 28 if axis else 2
    box = Box(width=300, height=bottom + 4 + _LINE * len(values), left=left, right=62, top=2, bottom=bottom)
    figure, (axes,) = grid([""], box, columns=1)
    axes.set(xlim=(0, right), ylim=(max(len(values), 1) - 0.5, -0.5))
    marks = ticks(0, right, 4)
    metric = next((value.name for value in values.values()), "")
    mark_steps(axes, marks if axis else [], [tick_label(mark, metric) for mark in marks if axis])
    axes.set_yticks(range(len(values)), names)
    for place, value in enumerate(values.values()):
        tone = place if tones is None else tones[place]
        _draw_value(axes, place, value, LIGHT.tones[tone % TONES])
    return figure


def scale_of(values: Sequence[MetricValue]) -> float:
    """Choose where lines of dots that begin at 0 end: 1 for shares, else somewhat more than the largest value."""
    ends = [end for value in values for end in (value.value, value.high, value.chance) if end is not None]
    largest = max(ends, default=1.0)
    if largest <= 1 and all(is_share(value.name) for value in values):
        return 1.0
    return 1.15 * largest if largest > 0 else 1.0


def _draw_value(axes: "Axes", place: int, value: MetricValue, colour: str) -> None:
    right = axes.get_xlim()[1]
    axes.plot([0, right], [place, place], color=LIGHT.sunk, linewidth=4, solid_capstyle="round", clip_on=False)
    if value.low is not None and value.high is not None:
        ends = np.clip([value.low, value.high], 0, right)
        axes.plot(ends, [place, place], color=colour, alpha=0.36, linewidth=11, solid_capstyle="butt", clip_on=False)
    if value.chance is not None:
        chance = min(max(value.chance, 0.0), right)
        axes.plot([chance, chance], [place - 0.4, place + 0.4], color=LIGHT.ink, linewidth=2, clip_on=False)
    if value.value is not None:
        length = [0, min(max(value.value, 0.0), right)]
        axes.plot(length, [place, place], color=colour, alpha=0.5, linewidth=4, solid_capstyle="butt", clip_on=False)
        dot = min(max(value.value, 0.0), right)
        axes.plot([dot], [place], "o", color=colour, markersize=9, mec=LIGHT.card, mew=2, clip_on=False)
    text = written(value.value, value.name)
    axes.annotate(
        text,
        (1, place),
        xycoords=("axes fraction", "data"),
        xytext=(12, 0),
        textcoords="offset points",
        va="center",
        fontsize=11,
        color=LIGHT.ink,
    )


@drawn
def seed_dots(
    panels: Mapping[str, Mapping[str, SeedValues]],
    metrics: Sequence[str],
    names: Sequence[str],
    *,
    columns: int = 3,
    titles: bool = True,
) -> "Figure":
    """Draw a line for every arm: seeds as small dots, the mean as a large dot, one standard error to either side.

    Args:
        panels: of each panel, such as a task, the arms' values over seeds.
        metrics: of each panel, what the values are.
        names: all arms, which gives them their order and colours.

    Example:
        >>> from types import SimpleNamespace
        >>> from uniperceiver.figures import seed_dots
        >>> spread = SimpleNamespace(mean=0.5, error=0.1, seeds={0: 0.4, 1: 0.6})
        >>> figure = seed_dots({"shapes": {"shared": spread}}, ["accuracy@1"], ["shared"])
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['shared']
    """
    shown = {
        title: {name: spreads[name] for name in names if name in spreads and np.isfinite(spreads[name].mean)}
        for title, spreads in panels.items()
    }
    lines = max((len(spreads) for spreads in shown.values()), default=0)
    left = 20 + LETTER * min(_NAME, max(map(len, names), default=0))
    box = Box(width=320, height=40 + _LINE * lines, left=left, right=14, top=8, bottom=24)
    heads = [f"{title} · {metric}" if titles else "" for title, metric in zip(panels, metrics, strict=True)]
    figure, grid_axes = grid(heads, box, columns=columns)
    for axes, metric, spreads in zip(grid_axes, metrics, shown.values(), strict=True):
        _draw_spreads(axes, spreads, metric, names)
    return figure


def _draw_spreads(axes: "Axes", spreads: Mapping[str, SeedValues], metric: str, names: Sequence[str]) -> None:
    ends = [0.0, 1.0] if not spreads else []
    for spread in spreads.values():
        error = finite(spread.error) or 0.0
        ends += [value for value in (*spread.seeds.values(), spread.mean - error, spread.mean + error)]
        ends = [end for end in ends if finite(end) is not None]
    low, high = min(ends, default=0.0), max(ends, default=0.0)
    margin = 0.07 * (high - low) or 0.1 * abs(high) or 1.0
    axes.set(xlim=(low - margin, high + margin), ylim=(max(len(spreads), 1) - 0.5, -0.5))
    marks = ticks(low - margin, high + margin, 4)
    mark_steps(axes, marks, [tick_label(mark, metric) for mark in marks])
    axes.set_yticks(range(len(spreads)), short_names(list(spreads), _NAME))
    axes.grid(axis="x", color=LIGHT.line, linewidth=1)
    for place, (name, spread) in enumerate(spreads.items()):
        colour = LIGHT.tones[list(names).index(name) % TONES]
        error = finite(spread.error) or 0.0
        line = axes.plot([spread.mean - error, spread.mean + error], [place, place], color=colour, linewidth=2)
        seeds = [value for value in spread.seeds.values() if finite(value) is not None]
        line += axes.plot(
            seeds, [place] * len(seeds), "o", color=colour, alpha=0.45, markersize=5.2, mew=0, label="seeds"
        )
        line += axes.plot(
            [spread.mean], [place], "o", color=colour, markersize=9.2, mec=LIGHT.card, mew=1.5, label=name
        )
        for artist in line:
            artist.set_clip_on(False)
    rows = list(spreads)
    squares = axes.barh(range(len(rows)), high - low + 2 * margin, left=low - margin, height=1.0, color="none", lw=0)
    for square, name in zip(squares, rows, strict=True):
        square.set_clip_on(False)
        tip(square, [f"{name}: {with_error(spreads[name].mean, spreads[name].error, metric)}"])
