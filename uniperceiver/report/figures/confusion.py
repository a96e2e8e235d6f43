"""The confusion matrix of a task with classes: which class was answered by which.

Shape suffixes: K classes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from uniperceiver.report.figures.canvas import LETTER, TEXT, Box, clear_of, drawn, grid, tip
from uniperceiver.report.parts.colours import LIGHT
from uniperceiver.report.parts.numbers import THIN_SPACE, short_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 20  # that are drawn; of more, those that are most often confused

_NAME = 16  # most characters
_SQUARE, _SPACE = 26, 2  # of a square, and between squares


@drawn
def confusion_map(names: Sequence[str], confusion_KK: np.ndarray) -> "Figure":
    """Draw how often each class (row) was answered by each class (column), in per cent of the row.

    Of more than `MOST_CLASSES` those with the most wrong answers are shown; per cents stay those of the whole row.

    Args:
        confusion_KK: int, rows: the right class.

    Example:
        >>> import numpy as np
        >>> from uniperceiver.figures import confusion_map
        >>> figure = confusion_map(["cat", "dog"], np.array([[9, 1], [0, 4]]))
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['90', '10', '100']
    """
    from matplotlib.collections import PolyCollection

    wrong_K = confusion_KK.sum(0) + confusion_KK.sum(1) - 2 * np.diagonal(confusion_KK)
    shown = np.sort(np.argsort(-wrong_K, kind="stable")[:MOST_CLASSES]).tolist()
    total_K = confusion_KK.sum(1)
    labels = short_names([names[place] for place in shown], _NAME)
    longest = LETTER * max(map(len, labels), default=0)
    count, space = len(shown), _SPACE / 2 / _SQUARE
    box = Box(
        width=26 + longest + _SQUARE * count,
        height=longest + 20 + _SQUARE * count,
        left=18 + longest,
        right=8,
        top=longest + 14,
        bottom=6,
    )
    left_out = len(names) - count
    note = f"row: right; column: answered; {THIN_SPACE}% of the row" + (
        f"; {left_out} classes more" if left_out else ""
    )
    figure, (axes,) = grid([""], box, columns=1, note=note)
    axes.set(xlim=(0, count), ylim=(count, 0))
    squares, colours, tips = [], [], []
    for row, right in enumerate(shown):
        for column, answered in enumerate(shown):
            samples, total = int(confusion_KK[right, answered]), int(total_K[right])
            x0, x1, y0, y1 = column + space, column + 1 - space, row + space, row + 1 - space
            squares.append([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
            share = samples / total if total else 0.0
            shade = LIGHT.helps if right == answered else LIGHT.hurts
            colours.append(clear_of(shade, share**0.6) if samples else clear_of(LIGHT.sunk, 1.0))
            tips.append(f"{names[right]}, answered by {names[answered]}: {samples:,} of {total:,}")
            if samples:
                text = axes.text(column + 0.5, row + 0.5, f"{100 * share:.0f}", ha="center", va="center")
                text.set(fontsize=TEXT, color=LIGHT.ink)
    tip(axes.add_collection(PolyCollection(squares, facecolors=colours, linewidths=0, zorder=0, clip_on=False)), tips)
    axes.set_yticks([row + 0.5 for row in range(count)], labels)
    axes.xaxis.tick_top()
    axes.tick_params(top=False, labelsize=TEXT + 1)
    axes.set_xticks([column + 0.5 for column in range(count)], labels, rotation=90)
    return figure
