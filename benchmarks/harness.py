"""Ratios of times, measured fairly on a noisy machine: paired, alternating runs and the bootstrap of their median."""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from uniperceiver.streams import numpy_stream

PAIRS, QUICK_PAIRS = 30, 8
NOISY = 0.1  # wider intervals than this prove nothing


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured ratio: ours over the baseline, lower is better."""

    name: str  # area/what/size/batch/threads/variant
    value: float  # median of the paired ratios
    unit: str
    low: float  # 95 % bootstrap interval
    high: float
    goal: float | None  # None: reported, not judged
    holds: bool | None  # low <= goal
    noisy: bool


def ratio(
    name: str,
    ours: Callable[[], object],
    baseline: Callable[[], object],
    *,
    goal: float | None = None,
    pairs: int = PAIRS,
) -> Row:
    """Time of `ours` over time of `baseline`, run in turns after one warm-up each."""
    ours()
    baseline()
    ratios = []
    for pair in range(pairs):
        first, second = (ours, baseline) if pair % 2 == 0 else (baseline, ours)
        one, other = _seconds(first), _seconds(second)
        ratios.append(one / other if pair % 2 == 0 else other / one)
    resamples = numpy_stream(0, name).choice(ratios, size=(1000, pairs))
    low, high = np.percentile(np.median(resamples, axis=1), (2.5, 97.5))
    holds = None if goal is None else bool(low <= goal)
    return Row(
        name=name,
        value=float(np.median(ratios)),
        unit="ratio",
        low=float(low),
        high=float(high),
        goal=goal,
        holds=holds,
        noisy=bool(high - low > NOISY),
    )


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main(measure: Callable[[int], list[Row]]) -> None:
    """Run a benchmark from the command line: print its rows, and write them as JSON if asked."""
    parser = argparse.ArgumentParser(description=measure.__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PAIRS} pairs instead of {PAIRS}")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows = measure(QUICK_PAIRS if options.quick else PAIRS)
    for row in rows:
        judged = "" if row.goal is None else f"  goal {row.goal:.2f}: {'holds' if row.holds else 'missed'}"
        print(f"{row.name:70s} {row.value:6.2f}  ({row.low:.2f} - {row.high:.2f}){judged}{'  noisy' * row.noisy}")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
