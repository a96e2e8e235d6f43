"""Figures of interference over depth and over training: lines with their intervals, one panel for an affected task.

Shape suffixes: P places of a line, K tasks.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from uniperceiver.interference.records import Interference, InterferenceLayer
from uniperceiver.report.figures.canvas import Box, Key, drawn, grid, mark_steps, mark_values, tip
from uniperceiver.report.parts.colours import LIGHT, tone_of
from uniperceiver.report.parts.numbers import MINUS, count, finite, short_names, signed, tick_label, ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LIMIT = 3.0  # lines and bands beyond it are drawn at the edge: a denominator near 0 would flatten all others
SOLID = 4  # the lines of tasks after these are dashed, as colours alone are hard to tell apart
_LEAST = 0.05  # the smallest reach of the upright axis
_MARKS = 60  # up to so many points get a dot of their own
_NAME = 24  # most characters
_BOX = Box(width=320, height=176, right=10)

Lines = Mapping[str, np.ndarray]  # stepping task -> value, low and high end of its interval, (3, P)


@drawn
def interference_over_depth(
    measured: Interference,
    layers: Sequence[InterferenceLayer] | None = None,
    affected: Sequence[str] | None = None,
    *,
    columns: int = 3,
    titles: bool = True,
) -> "Figure":
    """Draw what the steps of other tasks do to a task, from the first layer to the last, a panel for each task.

    Args:
        layers: the same parameters of several layers, in order; None: all groups that are of a layer.
        affected: tasks with a panel; None: all.

    Example:
        >>> from uniperceiver.figures import interference_over_depth, read_interference
        >>> keys = ("matrix", "low", "high", "matrix_mean_of_ratios", "cosine", "conflict_rate")
        >>> layers = [
        ...     {"name": f"layer.{depth}", "layer": depth} | dict.fromkeys(keys, [[1.0, 0.1 * depth], [0.4, 1.0]])
        ...     for depth in range(3)
        ... ]
        >>> measured = {"step": 9, "tasks": ["a", "b"], "parameters": "layer.*", "batches": 20, "layers": layers}
        >>> figure = interference_over_depth(read_interference(measured), affected=["a"])
        >>> figure.axes[0].lines[-2].get_xdata().tolist()
        [0.0, 1.0, 2.0]
    """
    depths = [layer for layer in (measured.layers if layers is None else layers) if layer.layer is not None]
    points = [(measured, layer.name) for layer in depths]
    places = [float(layer.layer or 0) for layer in depths]
    return _panels("layer", places, points, measured.tasks, affected, columns=columns, titles=titles)


@drawn
def interference_over_training(
    measurements: Sequence[Interference],
    layer: InterferenceLayer,
    affected: Sequence[str] | None = None,
    *,
    columns: int = 3,
    titles: bool = True,
) -> "Figure":
    """Draw what the steps of other tasks do to a task, in the measurements of a run, a panel for each task.

    Args:
        measurements: in the order of their steps; those that did not look at the layer leave a gap.
        affected: tasks with a panel; None: all of the last measurement.

    Example:
        >>> from uniperceiver.figures import interference_over_training, read_interference
        >>> keys = ("matrix", "low", "high", "matrix_mean_of_ratios", "cosine", "conflict_rate")
        >>> layer = {"name": "head.weight", "layer": None} | dict.fromkeys(keys, [[1.0, -0.2], [0.4, 1.0]])
        >>> lines = [
        ...     {"step": step, "tasks": ["a", "b"], "parameters": "head.weight", "batches": 20, "layers": [layer]}
        ...     for step in (100, 200)
        ... ]
        >>> measurements = [read_interference(line) for line in lines]
        >>> figure = interference_over_training(measurements, measurements[0].layers[0])
        >>> [text.get_text() for text in figure.texts][:2]
        ['a is affected', 'b is affected']
    """
    points = [(measured, layer.name) for measured in measurements]
    places = [float(measured.step) for measured in measurements]
    return _panels("step", places, points, measurements[-1].tasks, affected, columns=columns, titles=titles)


def _panels(
    unit: str,
    places: Sequence[float],
    points: Sequence[tuple[Interference, str]],
    tasks: Sequence[str],
    affected: Sequence[str] | None,
    *,
    columns: int,
    titles: bool,
) -> "Figure":
    """A panel for each affected task; `points` are the measurement and the parameters at each place."""
    shown = list(tasks) if affected is None else list(affected)
    names = dict(zip(tasks, short_names(tasks, _NAME), strict=True))
    keys = [
        Key(name=f"step of {names[task]}", tone=tone_of(tasks, task), dashed=place >= SOLID)
        for place, task in enumerate(tasks)
    ]
    heads = [f"{names[task]} is affected" if titles else "" for task in shown]
    figure, panels = grid(heads, _BOX, columns=columns, legend=keys if titles else ())
    for axes, task in zip(panels, shown, strict=True):
        lines = {other: _line_of(points, task, other) for other in tasks if other != task}
        _draw(axes, unit, np.array(places), lines, tasks)
    return figure


def _line_of(points: Sequence[tuple[Interference, str]], affected: str, stepping: str) -> np.ndarray:
    """Value and interval at each place, (3, P); NaN where the measurement has no such task or parameters."""
    table_3P = np.full((3, len(points)), np.nan)
    for place, (measured, name) in enumerate(points):
        layer = next((layer for layer in measured.layers if layer.name == name), None)
        if layer is not None and {affected, stepping} <= set(measured.tasks):
            row, column = measured.tasks.index(affected), measured.tasks.index(stepping)
            tables = layer.estimate.matrix_KK, layer.estimate.low_KK, layer.estimate.high_KK
            cells = [finite(float(table_KK[row, column])) for table_KK in tables]
            table_3P[:, place] = [np.nan if cell is None else cell for cell in cells]
    table_3P[1:, np.isnan(table_3P).any(axis=0)] = np.nan  # an interval has two ends and a value between
    return table_3P


def _draw(axes: "Axes", unit: str, place_P: np.ndarray, lines: Lines, tasks: Sequence[str]) -> None:
    values_N = np.concatenate([line_3P[0] for line_3P in lines.values()]) if lines else np.array([np.nan])
    if np.isnan(values_N).all():
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "not measurable", ha="center", va="center", color=LIGHT.soft, transform=axes.transAxes)
        return
    low, high = _reach(lines)
    room = 0.03 * (place_P.max() - place_P.min()) or 1.0
    axes.set(xlim=(place_P.min() - room, place_P.max() + room), ylim=(low, high))
    values = ticks(low, high, 5)
    mark_values(axes, values, ["0" if abs(value) < 1e-9 else f"{value:+.3g}".replace("-", MINUS) for value in values])
    marks = _marks(place_P)
    mark_steps(axes, marks, [tick_label(mark) for mark in marks])
    if low < 0 < high:
        axes.axhline(0, color=LIGHT.ink, linewidth=1.2, linestyle=(0, (3.3, 2.5)), alpha=0.7, zorder=1)
    crowded = len(place_P) * len(lines) > _MARKS
    for task, line_3P in lines.items():
        _draw_line(axes, place_P, np.clip(line_3P, low, high), tasks, task, crowded=crowded, clear=_is_clear(line_3P))
    (hidden,) = axes.plot(place_P, np.full(len(place_P), np.nan), color=LIGHT.soft, visible=False)
    tip(hidden, [_said(unit, place, index, lines) for index, place in enumerate(place_P)])


def _reach(lines: Lines) -> tuple[float, float]:
    """Room for all lines and 0; bands get at most as much again on either side."""
    table_L3P = np.clip(np.stack(list(lines.values())), -LIMIT, LIMIT)
    value_N = np.append(table_L3P[:, 0][~np.isnan(table_L3P[:, 0])], 0.0)
    end_N = np.append(table_L3P[~np.isnan(table_L3P)], 0.0)
    reach = max(value_N.max() - value_N.min(), 2 * _LEAST)
    low, high = max(end_N.min(), value_N.min() - reach), min(end_N.max(), value_N.max() + reach)
    margin = max(0.06 * (high - low), _LEAST - (high - low) / 2)
    return low - margin, high + margin


def _is_clear(line_3P: np.ndarray) -> bool:
    """Whether some interval of the line excludes 0; True where there are no intervals."""
    low_P, high_P = line_3P[1:]
    return bool(np.isnan(low_P).all() or ((low_P > 0) | (high_P < 0)).any())


def _draw_line(
    axes: "Axes",
    place_P: np.ndarray,
    line_3P: np.ndarray,
    tasks: Sequence[str],
    task: str,
    *,
    crowded: bool,
    clear: bool,
) -> None:
    """A line with its dots, in a crowd only those of single points, in its band; faint where no interval excludes 0."""
    colour = LIGHT.tones[tone_of(tasks, task)]
    faint = 1.0 if clear else 0.45
    room = 0.007 * np.subtract(*axes.get_xlim()[::-1])
    for stretch_S in _stretches(line_3P[1]):
        xs = place_P[stretch_S] if len(stretch_S) > 1 else place_P[stretch_S[0]] + np.array([-room, room])
        low_S, high_S = (np.resize(end_P[stretch_S], len(xs)) for end_P in line_3P[1:])
        outline = np.concatenate([high_S, low_S[::-1]])
        axes.fill(np.concatenate([xs, xs[::-1]]), outline, color=colour, alpha=0.13, linewidth=0, clip_on=False)
    style = "-" if list(tasks).index(task) < SOLID else (0, (2.8, 2.2))
    axes.plot(place_P, line_3P[0], color=colour, linewidth=1.8, linestyle=style, alpha=faint, label=task, clip_on=False)
    dots = [stretch_S for stretch_S in _stretches(line_3P[0]) if len(stretch_S) == 1 or not crowded]
    if dots:
        dots_M = np.concatenate(dots)
        axes.plot(
            place_P[dots_M], line_3P[0][dots_M], "o", color=colour, alpha=faint, markersize=4.4, mew=0, clip_on=False
        )


def _stretches(value_P: np.ndarray) -> Iterator[np.ndarray]:
    """The places of the values that there are, cut wherever one is missing."""
    there_M = np.flatnonzero(~np.isnan(value_P))
    if len(there_M):
        yield from np.split(there_M, np.flatnonzero(np.diff(there_M) > 1) + 1)


def _marks(place_P: np.ndarray) -> list[float]:
    """Round places with something at them: layers, or steps."""
    low, high = float(place_P.min()), float(place_P.max())
    if high <= low:
        return [low]
    return [mark for mark in ticks(low, high, 5) if mark == round(mark)]


def _said(unit: str, place: float, index: int, lines: Lines) -> str:
    """What a page says where one points at a place."""
    texts = [f"{unit} {count(place)}"]
    for task, line_3P in lines.items():
        value, low, high = line_3P[:, index]
        interval = "" if np.isnan(low) else f" ({signed(low)} to {signed(high)})"
        texts.append(f"{task}: not measurable" if np.isnan(value) else f"{task}: {signed(value)}{interval}")
    return "\n".join(texts)
