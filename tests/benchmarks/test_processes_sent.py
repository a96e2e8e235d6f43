"""The benchmark of processes counts what is sent, against the formula."""

import pytest

from benchmarks import processes


def test_what_is_sent_is_what_the_formula_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "NAMES", 30)
    assert processes._sent("batch") == pytest.approx(1.0, abs=0.01)
    assert 0.8 < processes._sent("step") <= 1.01  # what no batch uses is left out there
