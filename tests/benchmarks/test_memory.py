"""The benchmark of memory runs, and activation checkpointing takes less."""

import math

import pytest

from benchmarks.memory import Case, measure
from benchmarks.moe_parts import Shape

SHAPE = Shape(width=64, layers=6, heads=1, length=40, cut=3)


@pytest.mark.parametrize("condition", ["shared", "attribute", "token"])
def test_computing_layers_again_takes_less_memory(condition: str) -> None:
    rows = measure(1, [Case(name="tiny", shape=SHAPE, condition=condition)], batches=(16,))
    kept, again, time = rows
    assert [row.unit for row in rows] == ["MB", "MB", "ratio"]
    assert kept.name == f"memory/all kept/tiny/batch16/threads1/{condition}"
    weights = sum(parameter.nbytes for parameter in SHAPE.encoder(condition=condition).parameters()) / 1e6
    assert weights < again.value < 0.85 * kept.value
    assert math.isfinite(time.value)


def test_what_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.memory._room", lambda: 20e6)
    rows = measure(1, [Case(name="tiny", shape=SHAPE)], batches=(2, 4000))
    assert {row.name.split("/")[3] for row in rows} == {"batch2"}
