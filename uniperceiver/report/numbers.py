"""How figures are written, and which of a task's figures belong together."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Larger magnitudes are what is left of a run that diverged; they would overflow the arithmetic of an axis.
_LARGEST = 1e30
_LOWER_IS_BETTER = frozenset({"loss", "perplexity"})
_SPLITS = ("test", "val", "train")  # the first that there is makes the headline
_THIN_SPACE = "\u202f"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One metric with what it is to be compared with."""

    name: str
    value: float | None  # None: not a finite number
    low: float | None = None  # ends of the 95 % interval
    high: float | None = None
    chance: float | None = None

    @property
    def above_chance(self) -> bool | None:
        """Whether the interval lies above chance; None where that cannot be said."""
        if self.chance is None or self.low is None or self.value is None or lower_is_better(self.name):
            return None
        return self.low > self.chance


def finite(value: Any) -> float | None:
    """The number, or None for everything an axis has no place for: NaN, infinities, other types."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        return None
    return float(value)


def figure(metrics: Mapping[str, float], name: str, main: str) -> Figure:
    """A metric with interval and chance; the plain `chance` belongs to the main metric."""
    chance = metrics.get(f"chance_{name}", metrics.get("chance") if name == main else None)
    return Figure(
        name=name,
        value=finite(metrics.get(name)),
        low=finite(metrics.get(f"{name}_low")),
        high=finite(metrics.get(f"{name}_high")),
        chance=finite(chance),
    )


def metric_names(metrics: Mapping[str, float]) -> list[str]:
    """The metrics themselves, without intervals, chances and counts."""
    return [
        name
        for name in metrics
        if name not in ("n", "chance") and not name.startswith("chance_") and not name.endswith(("_low", "_high"))
    ]


def headline_split(splits: Mapping[str, Any]) -> str | None:
    """The split by which a task is judged: held out, if there is such a one."""
    return next((name for name in (*_SPLITS, *splits) if name in splits), None)


def in_reading_order(splits: Mapping[str, Any]) -> list[str]:
    """Training, validation and test first, then the others."""
    return [name for name in reversed(_SPLITS) if name in splits] + [name for name in splits if name not in _SPLITS]


def lower_is_better(metric: str) -> bool:
    """Whether a small value is a good one."""
    return metric.removeprefix("masked_") in _LOWER_IS_BETTER


def is_share(metric: str) -> bool:
    """Whether a metric is a share of answers, which reads best in per cent."""
    return "accuracy" in metric or "recall" in metric


def written(value: float | None, metric: str = "") -> str:
    """A figure in about four characters: 74.2 %, 0.318, 27.4, 1,204."""
    if value is None or not math.isfinite(value):
        return "–"
    if is_share(metric):
        return f"{100 * value:.1f}{_THIN_SPACE}%"
    size = abs(value)
    if size >= 1e7:
        return f"{value:.1e}"
    if 0 < size < 0.01:
        return f"{value:.2g}"
    return f"{value:,.{3 if size < 10 else 1 if size < 1000 else 0}f}"


def count(value: float | None) -> str:
    """A whole number with separators."""
    return "–" if value is None else f"{value:,.0f}"
