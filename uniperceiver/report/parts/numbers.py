"""How numbers and names are written, and which of a task's metrics belong together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from uniperceiver.evaluation.answers.kind import CANDIDATES
from uniperceiver.evaluation.evaluate import beats_chance

T = TypeVar("T")

# Larger magnitudes are what is left of a run that diverged; they would overflow the arithmetic of an axis.
_LARGEST = 1e30
_SPLITS = ("test", "val", "train")  # the first that there is makes the headline
THIN_SPACE = "\u202f"
MINUS = "\u2212"


@dataclass(frozen=True, kw_only=True)
class MetricValue:
    """Holds one metric with what it is to be compared with."""

    name: str
    value: float | None  # None: not a finite number
    low: float | None = None  # ends of the 95 % interval
    high: float | None = None
    chance: float | None = None

    @property
    def above_chance(self) -> bool | None:
        """Whether the result is clearly better than chance; None where that cannot be said."""
        if self.chance is None or self.low is None or self.high is None or self.value is None:
            return None
        return beats_chance(self.name, self.low, self.high, self.chance)


def finite(value: Any) -> float | None:
    """Return the number, or None for everything an axis has no place for: NaN, infinities, other types."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        return None
    return float(value)


def metric_value(metrics: Mapping[str, float], name: str, main: str) -> MetricValue:
    """Pick a metric with its interval and chance; the plain `chance` belongs to the main metric."""
    chance = metrics.get(f"chance_{name}", metrics.get("chance") if name == main else None)
    return MetricValue(
        name=name,
        value=finite(metrics.get(name)),
        low=finite(metrics.get(f"{name}_low")),
        high=finite(metrics.get(f"{name}_high")),
        chance=finite(chance),
    )


def metric_names(metrics: Mapping[str, float]) -> list[str]:
    """List the metrics themselves, without intervals, chances and counts."""
    return [
        name
        for name in metrics
        if name not in ("n", "chance", CANDIDATES)
        and not name.startswith("chance_")
        and not name.endswith(("_low", "_high"))
    ]


def headline_split(splits: Mapping[str, Any]) -> str | None:
    """Choose the split by which a task is judged: held out, if there is such a split."""
    return next((name for name in (*_SPLITS, *splits) if name in splits), None)


def in_reading_order(splits: Mapping[str, Any]) -> list[str]:
    """Put training, validation and test first, then the other splits."""
    return [name for name in reversed(_SPLITS) if name in splits] + [name for name in splits if name not in _SPLITS]


def is_share(metric: str) -> bool:
    """Say whether a metric is a share of answers, which reads best in per cent."""
    return "accuracy" in metric or "recall" in metric


def written(value: float | None, metric: str = "") -> str:
    """Write a number in about four characters: 74.2 %, 0.318, 27.4, 1,204; a dash where it is not finite."""
    if value is None or not math.isfinite(value):
        return "–"
    if is_share(metric):
        return f"{100 * value:.1f}{THIN_SPACE}%"
    size = abs(value)
    if size >= 1e7:
        return f"{value:.1e}"
    if 0 < size < 0.01:
        return f"{value:.2g}"
    return f"{value:,.{3 if size < 10 else 1 if size < 1000 else 0}f}"


def count(value: float | None) -> str:
    """Write a whole number with separators."""
    return "–" if value is None else f"{value:,.0f}"


def with_error(value: float, error: float, metric: str) -> str:
    """Write a value with its standard error in as many decimals, or more where it would be 0: 74.2 % ± 1.3."""
    text = written(value, metric)
    if finite(error) is None:
        return text
    shown = 100 * error if is_share(metric) else error
    decimals = len(text.rstrip(f"{THIN_SPACE}%").partition(".")[2]) if "e" not in text else 0
    rounded = f"{shown:,.{decimals}f}"
    return f"{text} ± {rounded if float(rounded.replace(',', '')) or not shown else f'{shown:.1g}'}"


def signed(value: float | None) -> str:
    """Write a number with its sign: +0.32, −0.08, 0.00, +14, −2e+03; a dash for what was not measured."""
    if value is None or finite(value) is None:
        return "–"
    size = abs(value)
    text = f"{size:.0e}" if size >= 999.5 else f"{size:.0f}" if size >= 9.995 else f"{size:.2f}"
    return f"{MINUS if value < 0 else '+'}{text}" if text.strip("0.") else text


def percent(share: float) -> str:
    """Write a probability in whole per cents, without claiming certainty or impossibility: 82 %, <1 %, >99 %."""
    if 0 < share < 0.01:
        return f"<1{THIN_SPACE}%"
    return f">99{THIN_SPACE}%" if 0.99 < share < 1 else f"{100 * share:.0f}{THIN_SPACE}%"


def shortened(text: str, most: int) -> str:
    """Cut a text to at most that many characters, with an ellipsis where something was cut."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def short_names(names: Sequence[str], most: int) -> list[str]:
    """Cut names to at most so many characters; no two become alike that were not."""
    short = [shortened(name, most) for name in names]
    half = (most - 1) // 2
    return [
        cut if short.count(cut) == 1 or len(name) <= most else f"{name[: most - 1 - half]}…{name[-half:]}"
        for cut, name in zip(short, names, strict=True)
    ]


def evenly(items: Sequence[T], most: int) -> list[T]:
    """Choose at most so many items, evenly spread, the first and the last always among them."""
    if not items:
        return []
    chosen = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[index] for index in np.unique(chosen)]


def ticks(low: float, high: float, most: int) -> list[float]:
    """Choose round values from low to high, in at most `most` steps."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10, 20) if (high - low) / (power * factor) <= most + 1e-9)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_label(value: float, metric: str = "") -> str:
    """Write a value of an axis: 20 %, 0.5, 1,500, 20k, 3M."""
    text = written(value, metric).replace(f".0{THIN_SPACE}%", f"{THIN_SPACE}%")
    if text.endswith("%"):
        return text
    if abs(value) >= 1e6:
        return f"{value:.0e}" if abs(value) >= 1e9 else f"{value / 1e6:g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
