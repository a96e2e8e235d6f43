"""The outline of a mask, filled again, is the mask."""

import re

import numpy as np
import pytest

from uniperceiver.report.parts.outlines import outline_path


def filled(path: str, height: int, width: int) -> np.ndarray:
    """Which pixels lie inside the loops, by the even-odd rule: edges to the left of a pixel's middle are counted."""
    inside_HW = np.zeros((height, width), bool)
    for loop in re.findall("M([^Z]*)Z", path):
        points = [tuple(map(int, point.split())) for point in loop.split("L")]
        for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
            assert (x0 == x1) != (y0 == y1)
            if x0 == x1:
                inside_HW[min(y0, y1) : max(y0, y1), x0:] ^= True
    return inside_HW


@pytest.mark.parametrize("seed", range(6))
def test_the_outline_holds_the_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask_HW = rng.random((13, 17)) < [0.0, 0.2, 0.5, 0.8, 1.0, 0.6][seed]
    np.testing.assert_array_equal(filled(outline_path(mask_HW), 13, 17), mask_HW)


def test_straight_lines_have_two_ends() -> None:
    mask_HW = np.zeros((8, 9), bool)
    mask_HW[2:6, 3:7] = True
    path = outline_path(mask_HW)
    assert sorted(re.findall(r"\d+ \d+", path)) == ["3 2", "3 6", "7 2", "7 6"]
    mask_HW[3:5, 4:6] = False
    assert outline_path(mask_HW).count("M") == 2
    assert outline_path(mask_HW & False) == ""


def test_a_large_mask_has_a_short_outline() -> None:
    y, x = np.mgrid[:1000, :1500]
    mask_HW = (y - 500) ** 2 + (x - 700) ** 2 < 300**2
    path = outline_path(mask_HW)
    assert len(path) < 4000
    assert np.mean(filled(path, 1000, 1500) ^ mask_HW) < 0.01
