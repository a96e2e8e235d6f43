"""What every figure is drawn on: a grid of panels whose places are given in pixels, in one style.

matplotlib is imported when the first figure is drawn, and never its pyplot: nothing global changes. Lengths are pixels
of the page, of which a printed inch has 72.

Shape suffixes: H and W pixels, C red, green and blue.
"""

import functools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from uniperceiver.atomic import whole_file
from uniperceiver.errors import UserError
from uniperceiver.report.parts.colours import LIGHT

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PIXELS = 72  # of an inch
TEXT, TITLE = 10.5, 12.0  # sizes of letters
LETTER = 6.4  # the width of one of size TEXT, about
TIPS = "tips"  # attribute of an artist: what the page says where one points at its parts

_TITLE_ROOM, _LEGEND_LINE, _GAP = 24, 18, 14
_SHARP = 200  # dots per inch of a PNG file
# Everything else is matplotlib's own default, whatever style its user has chosen. A name with dollars is no formula.
_OURS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "uniperceiver",
    "pdf.fonttype": 42,
    "text.parse_math": False,
}
_SECTIONS = (
    "axes",
    "figure",
    "font",
    "grid",
    "lines",
    "patch",
    "path",
    "pdf",
    "savefig",
    "svg",
    "text",
    "xtick",
    "ytick",
)

P = ParamSpec("P")


@dataclass(frozen=True, kw_only=True)
class Box:
    """Holds the size of a panel, and what its axes leave free at each side, in pixels."""

    width: float
    height: float
    left: float = 46
    right: float = 9
    top: float = 10
    bottom: float = 22


@dataclass(frozen=True, kw_only=True)
class Key:
    """Holds an entry of a legend."""

    name: str
    tone: int  # place in the palette
    dashed: bool = False


@contextmanager
def drawing() -> Iterator[None]:
    """Set matplotlib's default style, and what files need, for the block; then all is as it was.

    Letters that matplotlib's own font does not have are drawn as boxes without a warning; in a page the browser draws
    them.
    """
    import matplotlib

    with matplotlib.rc_context(_style()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def drawn(function: "Callable[P, Figure]") -> "Callable[P, Figure]":
    """Let a function draw in matplotlib's default style, whatever style its user has chosen."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> "Figure":
        with drawing():
            return function(*args, **kwargs)

    return wrapped


@functools.cache
def _style() -> Any:  # matplotlib has a name for the type of such a dictionary only while types are checked
    import matplotlib

    defaults = matplotlib.rcParamsDefault
    return {key: defaults[key] for key in defaults if key.split(".")[0] in _SECTIONS} | _OURS


def grid(
    titles: Sequence[str], box: Box, *, columns: int, legend: Sequence[Key] = (), note: str = ""
) -> "tuple[Figure, list[Axes]]":
    """Make a figure with a panel for every title, row by row.

    Args:
        titles: shown above the panels; a grid of untitled ("") panels has no room for titles.
        legend: shown below all panels, in as many lines as it takes.
        note: shown below the legend.
    """
    from matplotlib.figure import Figure

    columns = max(1, min(columns, len(titles)))
    rows = max(1, math.ceil(len(titles) / columns))
    head = _TITLE_ROOM if any(titles) else 0
    step = box.height + head + (_GAP if rows > 1 else 0)
    width = columns * box.width
    lines = _legend_lines(legend, width)
    foot = len(lines) * _LEGEND_LINE + (_LEGEND_LINE if note else 0) + (6 if lines or note else 0)
    height = rows * step + foot
    figure = Figure(figsize=(width / PIXELS, height / PIXELS), dpi=PIXELS, facecolor=LIGHT.card)
    panels = []
    for place, title in enumerate(titles):
        left = place % columns * box.width
        bottom = height - place // columns * step - head - box.height
        size = (box.width - box.left - box.right, box.height - box.top - box.bottom)
        axes = figure.add_axes(
            (
                (left + box.left) / width,
                (bottom + box.bottom) / height,
                max(size[0], 1) / width,
                max(size[1], 1) / height,
            ),
            facecolor="none",
        )
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(left=False, bottom=False, labelsize=TEXT, labelcolor=LIGHT.soft, pad=5)
        axes.set_axisbelow(True)
        if title:
            top = (bottom + box.height + 6) / height
            figure.text((left + 12) / width, top, title, fontsize=TITLE, fontweight="bold", color=LIGHT.ink)
        panels.append(axes)
    _draw_legend(figure, lines, foot, note)
    return figure, panels


def _legend_lines(legend: Sequence[Key], width: float) -> list[list[Key]]:
    """The entries of a legend line by line, as many in each as there is room for."""
    lines: list[list[Key]] = []
    left = math.inf
    for key in legend:
        if left + _key_width(key) > width:
            lines.append([])
            left = 0.0
        lines[-1].append(key)
        left += _key_width(key)
    return lines


def _key_width(key: Key) -> float:
    return 46 + LETTER * len(key.name)


def _draw_legend(figure: "Figure", lines: Sequence[Sequence[Key]], foot: float, note: str) -> None:
    from matplotlib.lines import Line2D

    width, height = figure.get_size_inches() * PIXELS
    for row, keys in enumerate(lines):
        left, y = 12.0, foot - (row + 0.5) * _LEGEND_LINE
        for key in keys:
            xs, ys = (left / width, (left + 22) / width), (y / height, y / height)
            line = Line2D(xs, ys, color=LIGHT.tones[key.tone], linewidth=2.2)
            if key.dashed:
                line.set_dashes((4, 2))
            figure.add_artist(line)
            figure.text((left + 28) / width, y / height, key.name, fontsize=TEXT, color=LIGHT.soft, va="center")
            left += _key_width(key)
    if note:
        figure.text(12 / width, _LEGEND_LINE * 0.6 / height, note, fontsize=TEXT, color=LIGHT.soft, va="center")


def mark_steps(axes: "Axes", marks: Sequence[float], labels: Sequence[str]) -> None:
    """Write along the lower side; labels that would leave the panel end at its side."""
    axes.set_xticks(marks, labels)
    low, high = axes.get_xlim()
    for mark, label in zip(marks, axes.get_xticklabels(), strict=True):
        share = (mark - low) / (high - low)
        label.set_horizontalalignment("right" if share > 0.93 and len(label.get_text()) > 2 else "center")


def mark_values(axes: "Axes", marks: Sequence[float], labels: Sequence[str]) -> None:
    """Write along the left side, with a line across the panel at every value."""
    axes.set_yticks(marks, labels)
    axes.grid(axis="y", color=LIGHT.line, linewidth=1)


def tip(artist: "Artist", texts: Sequence[str]) -> None:
    """Say what a page shows where one points at the parts of an artist, which has as many parts as there are texts.

    Parts are the polygons of a collection, or the points of a line. A line with tips is itself never seen.
    """
    setattr(artist, TIPS, tuple(texts))


def clear_of(shade: str, alpha: float) -> tuple[float, float, float, float]:
    """Turn a colour #rrggbb into red, green, blue and opacity, 0 to 1."""
    red, green, blue = (int(shade[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue, alpha


def image_of(figure: "Figure", *, dpi: int = 100) -> np.ndarray:
    """Draw a figure in pixels, as TensorBoard shows it: image_HWC, uint8, on white."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    before = figure.dpi
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    with drawing():
        canvas.draw()
    image_HWC = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    figure.set_dpi(before)
    return image_HWC


def file_names(names: Iterable[str]) -> dict[str, str]:
    """Choose for each name one that a file may have, no two alike, also where capitals are as small letters."""
    chosen: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(names):
        plain = "".join(letter if letter.isalnum() else "_" for letter in name).strip("_")
        while plain.lower() in taken:
            plain += "_"
        taken.add(plain.lower())
        chosen[name] = plain
    return chosen


def save_figures(figures: "Mapping[str, Figure]", folder: Path) -> list[Path]:
    """Write every figure as NAME.pdf and NAME.png, with no dates: equal figures are equal files.

    Returns:
        The files, in order.

    Raises:
        UserError: the folder cannot be written.
    """
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            for suffix, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
                path = folder / f"{name}.{suffix}"
                with whole_file(path) as file, drawing():
                    figure.savefig(file, format=suffix, dpi=_SHARP, metadata=metadata)
                paths.append(path)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); name another folder with --figures") from None
    return paths
