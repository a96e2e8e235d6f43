"""MASKS -> PATHS: the outline of a mask along the edges of its pixels, for SVG.

Shape suffixes: H W pixels.
"""

from collections.abc import Iterator

import numpy as np

_MOST = 200  # pixels of the longest side that an outline follows

Point = tuple[int, int]


def outline_path(mask_HW: np.ndarray, most: int = _MOST) -> str:
    """Write the outlines of a mask, holes among them, as the `d` of a path in its pixels; "" of an empty mask.

    Fill it by the even-odd rule. Of a mask with longer sides than `most` every second, third, ... pixel is taken.
    """
    step = -(-max(mask_HW.shape) // most)
    offset = step // 2
    loops = _loops(mask_HW[offset::step, offset::step])
    return "".join(f"M{'L'.join(f'{x * step} {y * step}' for x, y in loop)}Z" for loop in loops)


def _loops(mask_HW: np.ndarray) -> Iterator[list[Point]]:
    """Closed lines around the mask, as their corners."""
    left = _steps(mask_HW)
    while left:
        first = point = next(iter(left))
        loop: list[Point] = []
        direction: Point | None = None
        while True:
            ends = left[point]
            end = ends.pop()
            if not ends:
                del left[point]
            turned = (end[0] - point[0], end[1] - point[1])
            if turned != direction:
                loop.append(point)
            point, direction = end, turned
            if point == first:
                break
        yield loop


def _steps(mask_HW: np.ndarray) -> dict[Point, list[Point]]:
    """From each corner of a pixel at the border to the next, with the mask on the right."""
    inside_HW = np.pad(mask_HW.astype(bool), 1)
    steps: dict[Point, list[Point]] = {}
    # Where the neighbour lies, and the two corners of the side towards it.
    for (down, right), start, end in (
        ((-1, 0), (0, 0), (1, 0)),
        ((0, 1), (1, 0), (1, 1)),
        ((1, 0), (1, 1), (0, 1)),
        ((0, -1), (0, 1), (0, 0)),
    ):
        outside_HW = ~np.roll(inside_HW, (-down, -right), axis=(0, 1))
        for y, x in np.argwhere(inside_HW & outside_HW) - 1:
            steps.setdefault((int(x) + start[0], int(y) + start[1]), []).append((int(x) + end[0], int(y) + end[1]))
    return steps
