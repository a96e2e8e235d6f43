"""Ratios of times, measured fairly on a noisy machine: paired, alternating runs and the bootstrap of their median."""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from uniperceiver.errors import UserError
from uniperceiver.streams import numpy_stream

PAIRS, QUICK_PAIRS = 30, 8
NOISY = 0.1  # wider intervals than this prove nothing


@dataclass(frozen=True, kw_only=True)
class BenchmarkRow:
    """One measured figure; a ratio is the measured time over the baseline's, lower is better."""

    name: str  # area/what/size/batch/threads/variant
    value: float  # median of what was measured, such as paired ratios
    unit: str
    low: float  # 95 % bootstrap interval
    high: float
    goal: float | None  # None: reported, not judged
    holds: bool | None  # low <= goal; of a lower bound, high >= goal
    noisy: bool


def ratio(
    name: str,
    measured: Callable[[], object],
    baseline: Callable[[], object],
    *,
    goal: float | None = None,
    at_least: bool = False,
    pairs: int = PAIRS,
) -> BenchmarkRow:
    """Time of `measured` over time of `baseline`, run in turns after one warm-up each."""
    measured()
    baseline()
    ratios = []
    for pair in range(pairs):
        first, second = (measured, baseline) if pair % 2 == 0 else (baseline, measured)
        first_seconds, second_seconds = _seconds(first), _seconds(second)
        ratios.append(first_seconds / second_seconds if pair % 2 == 0 else second_seconds / first_seconds)
    return figure(name, ratios, "ratio", goal=goal, at_least=at_least)


def figure(
    name: str, values: Sequence[float], unit: str, *, goal: float | None = None, at_least: bool = False
) -> BenchmarkRow:
    """The median of several measurements; the goal is an upper bound, or a lower one with `at_least`."""
    value = float(np.median(values))
    resamples = numpy_stream(0, name).choice(values, size=(1000, len(values)))
    low, high = (float(end) for end in np.percentile(np.median(resamples, axis=1), (2.5, 97.5)))
    holds = None if goal is None else high >= goal if at_least else low <= goal
    spread = (high - low) / (1.0 if unit == "ratio" else max(1.0, abs(value)))
    return BenchmarkRow(
        name=name, value=value, unit=unit, low=low, high=high, goal=goal, holds=holds, noisy=spread > NOISY
    )


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _digits(value: float) -> int:
    return 2 if abs(value) < 100 else 0


def main(measure: Callable[..., list[BenchmarkRow]], place: str = "") -> None:
    """Run a benchmark from the command line: print its rows, and write them as JSON if asked.

    Args:
        measure: of the number of pairs and, if there is a `place`, of its path or None.
        place: what a path on the command line names, such as RUN.
    """
    parser = argparse.ArgumentParser(description=measure.__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PAIRS} pairs instead of {PAIRS}")
    parser.add_argument("--json", type=Path, metavar="FILE")
    if place:
        parser.add_argument("place", nargs="?", type=Path, metavar=place)
    options = parser.parse_args()
    pairs = QUICK_PAIRS if options.quick else PAIRS
    try:
        rows = measure(pairs, options.place) if place else measure(pairs)
    except UserError as error:
        parser.error(str(error))
    for row in rows:
        judged = "" if row.goal is None else f"  goal {row.goal:.2f}: {'holds' if row.holds else 'missed'}"
        value = f"{row.value:6.{_digits(row.value)}f}{'' if row.unit == 'ratio' else ' ' + row.unit}"
        interval = f"({row.low:.{_digits(row.low)}f} - {row.high:.{_digits(row.high)}f})"
        print(f"{row.name:70s} {value}  {interval}{judged}{'  noisy' * row.noisy}")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
