"""Heat maps of interference: who helps and who hurts whom, in numbers on colours.

Shape suffix: K tasks.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from uniperceiver.interference.records import Interference, InterferenceLayer
from uniperceiver.report.figures.canvas import LETTER, TEXT, Box, clear_of, drawn, grid, tip
from uniperceiver.report.parts.colours import LIGHT
from uniperceiver.report.parts.numbers import THIN_SPACE, evenly, finite, short_names, shortened, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HOW = "row: the task that is affected; column: the task that takes the step; positive helps, negative hurts"
MOST_LAYERS = 24  # that one figure shows; of more, evenly chosen ones

_ROW_NAME, _COLUMN_NAME = 16, 14  # most characters
_UPRIGHT = 4  # of more tasks than that, the columns' names are turned
_WIDTH, _NARROW, _HEIGHT, _SPACE = 50, 45, 27, 2  # of a square, one of many, and between squares
_POWER = 0.6  # of colours: small effects are seen as well


@drawn
def interference_heat_maps(
    measured: Interference,
    layers: Sequence[InterferenceLayer] | None = None,
    *,
    columns: int | None = None,
    titles: bool = True,
) -> "Figure":
    """Draw a measurement as a heat map for each group of parameters, the interval excluding 0 where a number is bold.

    Args:
        layers: the groups that are shown; None: all, or evenly chosen ones of very many.
        columns: panels side by side; None: so many that the figure is somewhat wider than high.

    Example:
        >>> from uniperceiver.figures import interference_heat_maps, read_interference
        >>> table = [[1.0, -0.2], [0.4, 1.0]]
        >>> tables = dict.fromkeys(("matrix", "low", "high", "matrix_mean_of_ratios", "cosine", "conflict_rate"), table)
        >>> layer = {"name": "head.weight", "layer": None, **tables}
        >>> measured = {"step": 100, "tasks": ["a", "b"], "parameters": "head.weight", "batches": 20, "layers": [layer]}
        >>> figure = interference_heat_maps(read_interference(measured))
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['1', '−0.20', '+0.40', '1']
    """
    shown = evenly(measured.layers, MOST_LAYERS) if layers is None else layers
    names = short_names(measured.tasks, _COLUMN_NAME)
    longest = LETTER * max(map(len, names), default=0)
    turned = len(measured.tasks) > _UPRIGHT
    box = Box(
        width=26 + LETTER * max(map(len, short_names(measured.tasks, _ROW_NAME)), default=0) + _square_width(names),
        height=(longest + 14 if turned else 24) + _HEIGHT * len(measured.tasks) + 6,
        left=18 + LETTER * max(map(len, short_names(measured.tasks, _ROW_NAME)), default=0),
        right=8,
        top=longest + 14 if turned else 24,
        bottom=6,
    )
    if columns is None:
        columns = max(1, round((1.6 * len(shown) * box.height / box.width) ** 0.5))
    room = int(box.width / (1.2 * LETTER))
    names_of = [layer.name if layer.layer is None else f"layer {layer.layer} · {layer.name}" for layer in shown]
    heads = [shortened(name, max(room, 12)) if titles else "" for name in names_of]
    figure, panels = grid(heads, box, columns=columns, note=HOW if titles and columns * box.width > 640 else "")
    for axes, layer in zip(panels, shown, strict=True):
        _draw(axes, measured.tasks, layer, turned=turned)
    return figure


def _square_width(names: Sequence[str]) -> float:
    if len(names) > _UPRIGHT:
        return _NARROW * len(names)
    return max(_WIDTH, LETTER * max(map(len, names), default=0) + 8) * len(names)


def _draw(axes: "Axes", tasks: Sequence[str], layer: InterferenceLayer, *, turned: bool) -> None:
    from matplotlib.collections import PolyCollection

    count = len(tasks)
    axes.set(xlim=(0, count), ylim=(count, 0))
    space = _SPACE / 2 / _WIDTH, _SPACE / 2 / _HEIGHT
    squares, colours = [], []
    for row in range(count):
        for column in range(count):
            left, right = column + space[0], column + 1 - space[0]
            top, bottom = row + space[1], row + 1 - space[1]
            squares.append([(left, top), (right, top), (right, bottom), (left, bottom)])
            value = finite(float(layer.estimate.matrix_KK[row, column]))
            colours.append(colour_of(value, own=row == column))
            low, high = layer.estimate.low_KK[row, column], layer.estimate.high_KK[row, column]
            bold = row != column and (low > 0 or high < 0)  # the interval excludes 0
            axes.text(
                column + 0.5,
                row + 0.5,
                "1" if row == column and value is not None and abs(value - 1) < 1e-6 else signed(value),
                ha="center",
                va="center",
                fontsize=TEXT + 1,
                fontweight="bold" if bold else "normal",
                color=LIGHT.soft if row == column or value is None else LIGHT.ink,
            )
    artist = axes.add_collection(PolyCollection(squares, facecolors=colours, linewidths=0, zorder=0, clip_on=False))
    tip(artist, [" · ".join(_said(tasks, layer, row, column)) for row in range(count) for column in range(count)])
    axes.set_yticks([row + 0.5 for row in range(count)], short_names(tasks, _ROW_NAME))
    axes.xaxis.tick_top()
    axes.tick_params(top=False, labelsize=TEXT + 1)
    axes.set_xticks([column + 0.5 for column in range(count)], short_names(tasks, _COLUMN_NAME), rotation=90 * turned)


def colour_of(value: float | None, *, own: bool) -> tuple[float, float, float, float]:
    """Choose the colour of a square on a white ground: red, green, blue and opacity, 0 to 1."""
    if value is None:
        return clear_of(LIGHT.missing, 1.0)
    if own:
        return clear_of(LIGHT.sunk, 1.0)
    return clear_of(LIGHT.helps if value >= 0 else LIGHT.hurts, strength(value))


def strength(value: float) -> float:
    """Turn an effect into the strength of its colour: 0 to 1, which is the own task's step or more."""
    return float(min(abs(value), 1.0) ** _POWER)


def _said(tasks: Sequence[str], layer: InterferenceLayer, row: int, column: int) -> Iterator[str]:
    """All figures of a square in words."""
    estimate = layer.estimate
    value, low, high, ratios, cosine, conflicts = (
        finite(float(table_KK[row, column]))
        for table_KK in (
            estimate.matrix_KK,
            estimate.low_KK,
            estimate.high_KK,
            estimate.mean_of_ratios_KK,
            estimate.cosine_KK,
            estimate.conflict_rate_KK,
        )
    )
    own = "by its own step" if row == column else f"when {tasks[column]} takes the step"
    yield f"{tasks[row]}, {own}"
    interval = "" if low is None or high is None else f" (95{THIN_SPACE}% interval {signed(low)} to {signed(high)})"
    yield "not measurable" if value is None else f"{signed(value)}{interval}"
    if ratios is not None:
        yield f"mean of ratios {signed(ratios)}"
    if cosine is not None:
        yield f"cosine {signed(cosine)}"
    if conflicts is not None:
        yield f"conflict in {100 * conflicts:.0f}{THIN_SPACE}% of the pairs"
