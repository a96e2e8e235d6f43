"""Ratios of times: medians of pairs, intervals, and when a goal holds."""

import json
import time
from functools import partial
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.results_table import table


def test_a_ratio_is_ours_over_the_baseline() -> None:
    row = harness.ratio("test/sleep", partial(time.sleep, 0.002), partial(time.sleep, 0.010), goal=0.5, pairs=6)
    assert row.low <= row.value <= row.high < 0.8
    assert row.holds
    assert not harness.ratio(
        "test/sleep", partial(time.sleep, 0.010), partial(time.sleep, 0.002), goal=0.5, pairs=4
    ).holds


def test_rows_are_written_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmark", "--quick", "--json", str(tmp_path / "rows.json")])
    harness.main(lambda pairs: [harness.ratio("area/what", list, list, pairs=pairs)])
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert set(row) == {"name", "value", "unit", "low", "high", "goal", "holds", "noisy"}
    assert "area/what" in capsys.readouterr().out


def test_the_results_table_marks_what_is_clearly_above_chance() -> None:
    metrics = {"accuracy@1": 0.5, "accuracy@1_low": 0.4, "accuracy@1_high": 0.6, "chance": 0.3, "n": 90, "loss": 1.0}
    worse = metrics | {"accuracy@1_low": 0.2}
    lines = table({"tasks": {"garments": {"val": metrics, "test": worse}}}).splitlines()
    assert lines[2] == "| garments | val | accuracy@1 | 0.500 | 0.400 - 0.600 | 0.300 | yes | 90 |"
    assert lines[3].endswith("| no | 90 |")
