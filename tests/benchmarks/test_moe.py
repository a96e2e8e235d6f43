"""The benchmark of the experts runs, at a size that says nothing about time."""

import math

from benchmarks.moe import Scale, measure
from benchmarks.moe_parts import Shape

TINY = Scale(stack=Shape(width=64, layers=2, heads=1, length=7, cut=3), batches=(2, 3), widths=(128, 64), threads=(1,))


def test_every_row_is_measured() -> None:
    rows = {row.name: row for row in measure(1, TINY)}
    for part in ("attribute train", "merged infer", "token infer", "expert FFNs", "context over token"):
        assert any(part in name for name in rows), part
    assert all(name.split("/")[4] == "threads1" for name in rows)
    assert all(math.isfinite(row.value) and row.value > 0 for row in rows.values())
    memory = [row for row in rows.values() if row.unit == "MB"]
    assert len(memory) == 2
    assert all(row.holds for row in memory)
