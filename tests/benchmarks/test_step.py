"""The benchmark of a training step runs, at a size that says nothing about time."""

import math
from pathlib import Path

import pytest

from benchmarks.step import Scale, measure
from benchmarks.step_clock import Clock
from tests.small_run import values_of, write_recipe

TINY = Scale(parts=2, every=2, learning=4, held_out=2, batches=2)


def test_every_row_is_measured(tmp_path: Path) -> None:
    values = values_of(("colours", "captions", "retrieval"), moe={"condition": "attribute", "experts": 2})
    path = write_recipe(tmp_path / "small.yaml", values)
    rows = {row.name.removeprefix("step/"): row for row in measure(1, path, TINY)}
    by_part = {name.split("/")[0]: row for name, row in rows.items()}
    outside = by_part.pop("outside forward, backward, optimiser")
    parts = [row.value for row in by_part.values() if row.unit == "of the time"]
    assert 0 < sum(parts) - max(parts) < outside.value < 1
    assert outside.goal == 0.05
    padding = {name.split("/")[-1]: row.value for name, row in rows.items() if name.startswith("padding")}
    assert 0 < padding["colours"] < 0.2  # only some of the labels are shorter than others
    assert 0 < padding["captions"] < 0.7
    assert 0 < padding["retrieval"] < 0.7
    assert by_part["time, sampled 56 over full"].value > 0
    assert by_part["loss, full"].value == pytest.approx(math.log(280), abs=3)
    assert by_part["loss, sampled 56 - full"].value != 0
    assert [row.name for row in rows.values() if not math.isfinite(row.value)] == []


def test_a_part_inside_another_is_not_counted_twice() -> None:
    seconds = [0.0]
    clock = Clock(every=2, now=lambda: seconds[0])
    for step in range(5):
        clock.step(step)
        with clock.on("forward"):
            seconds[0] += 1
            with clock.on("candidates"):
                seconds[0] += 4
            seconds[0] += 2
        seconds[0] += 3
        clock.step(step)  # its second batch
    assert [part.seconds for part in clock.parts] == [20, 20]
    assert [part.of for part in clock.parts] == [{"forward": 6, "candidates": 8}] * 2
    assert clock.parts[0].outside == pytest.approx(1 - 6 / 20)
