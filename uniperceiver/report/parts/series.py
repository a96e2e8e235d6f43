"""Curves as numbers: read from the log, smoothed, and thinned to what a screen can show.

Shape suffix: N points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from uniperceiver.report.parts.numbers import finite


@dataclass(frozen=True, kw_only=True)
class Series:
    """Holds values over steps; NaN where a value was not finite."""

    step_N: np.ndarray  # float64, ascending
    value_N: np.ndarray  # float64

    def __len__(self) -> int:
        return len(self.step_N)

    @property
    def finite_N(self) -> np.ndarray:
        """Where there is a value."""
        return np.isfinite(self.value_N)

    def at(self, index_M: np.ndarray) -> "Series":
        """Only the points with those indices (or where a mask is True)."""
        return Series(step_N=self.step_N[index_M], value_N=self.value_N[index_M])


def read_series(log: Sequence[Mapping[str, Any]], event: str, key: str) -> Series:
    """Read what the lines of an event say about a key; lines without it are no points."""
    points = []
    for line in log:
        step = finite(line.get("step"))
        if line.get("event") == event and key in line and step is not None:
            value = finite(line[key])
            points.append((step, np.nan if value is None else value))
    table_N2 = np.array(sorted(points, key=lambda point: point[0]), dtype=np.float64).reshape(-1, 2)
    return Series(step_N=table_N2[:, 0], value_N=table_N2[:, 1])


def read_keys(log: Sequence[Mapping[str, Any]], event: str) -> list[str]:
    """List all keys of an event, in the order in which they first appear."""
    return list(dict.fromkeys(key for line in log if line.get("event") == event for key in line))


def smoothed(series: Series, half_life: float) -> Series:
    """Average over the neighbours on both sides, whose weight halves every `half_life` points; no lag, no invention.

    The last mean has only earlier neighbours; where there was no value there is no mean.
    """
    decay = 0.5 ** (1 / half_life)
    before_2N = _decaying_sums(series.value_N, decay)
    after_2N = _decaying_sums(series.value_N[::-1], decay)[:, ::-1]
    own_2N = np.stack([np.nan_to_num(series.value_N), series.finite_N.astype(float)])
    total_N, weight_N = before_2N + after_2N - own_2N  # both sums contain the point itself
    value_N = np.where(series.finite_N, total_N / np.maximum(weight_N, 1), np.nan)
    return Series(step_N=series.step_N, value_N=value_N)


def _decaying_sums(value_N: np.ndarray, decay: float) -> np.ndarray:
    """Of the finite values so far, (2, N): their sum and weight, both shrinking by `decay` from point to point."""
    total = weight = 0.0
    sums = []
    for value in value_N:
        total, weight = decay * total, decay * weight
        if np.isfinite(value):
            total, weight = total + value, weight + 1
        sums.append((total, weight))
    return np.array(sums).reshape(-1, 2).T


def thinned(series: Series, most: int) -> Series:
    """Keep at most `most` points: of each stretch the smallest and the largest, so that no spike is lost."""
    if len(series) <= most:
        return series
    kept = {0, len(series) - 1}
    for stretch_M in np.array_split(np.arange(1, len(series) - 1), max((most - 2) // 2, 1)):
        value_M = series.value_N[stretch_M]
        if np.isfinite(value_M).any():
            kept |= {int(stretch_M[np.nanargmin(value_M)]), int(stretch_M[np.nanargmax(value_M)])}
        elif len(stretch_M):
            kept.add(int(stretch_M[0]))
    return series.at(np.array(sorted(kept)))


def spread_out(series: Series, most: int) -> Series:
    """Keep at most `most` of the finite points, evenly chosen, the last always among them."""
    points = series.at(series.finite_N)
    if len(points) <= most:
        return points
    return points.at(np.unique(np.linspace(0, len(points) - 1, most).round().astype(int)))
