"""Learning curves over seeds, against points worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from tests.studied import without_training, write_study
from uniperceiver.report.parts.series import Series
from uniperceiver.studies.study import report_study, run_study
from uniperceiver.studies.tables import band


def series(points: dict[float, float]) -> Series:
    return Series(step_N=np.array(list(points)), value_N=np.array(list(points.values())))


def test_a_band_has_the_steps_that_all_have() -> None:
    curve = band([series({0.0: 4.0, 2.0: 2.0, 4.0: 0.0}), series({1.0: 6.0, 3.0: 4.0, 5.0: 9.0})])
    assert curve.step_P.tolist() == [1, 2, 3, 4]
    assert curve.low_P.tolist() == [3, 2, 1, 0]  # between points, what lies between their values
    assert curve.high_P.tolist() == [6, 5, 4, 6.5]
    assert curve.mean_P.tolist() == [4.5, 3.5, 2.5, 3.25]


def test_curves_without_common_steps_are_an_empty_band() -> None:
    assert len(band([series({0.0: 4.0, 2.0: 2.0}), series({3.0: 6.0, 4.0: 4.0})]).step_P) == 0


def test_a_long_curve_is_thinned() -> None:
    step_N = np.arange(1000.0)
    curve = band([Series(step_N=step_N, value_N=2 * step_N)])
    assert (curve.step_P[0], curve.step_P[-1], len(curve.step_P)) == (0, 999, 80)
    assert curve.mean_P == pytest.approx(2 * curve.step_P)


def test_the_logs_of_an_arm_become_its_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_training(monkeypatch)
    path, out = write_study(tmp_path, processes=3), tmp_path / "o"
    run_study(path, out, quiet=True)
    for seed in (0, 1):
        (out / f"cells/own/seed-{seed}.json").unlink()  # as of a run that goes on
    curves = report_study(path, out).report.curves
    assert curves is not None
    assert {title: list(tasks) for title, tasks in curves.items()} == {
        "Training loss": ["colours"],
        "Validation loss": ["colours"],
    }
    assert list(curves["Training loss"]["colours"]) == ["shared", "mid"]
    training = curves["Training loss"]["colours"]["shared"]
    assert training.step_P.tolist() == [1, 2, 4]
    assert training.mean_P.tolist() == [6, 5, 3]
    validation = curves["Validation loss"]["colours"]["mid"]
    assert validation.low_P.tolist() == [2.25, 2.25]
    assert validation.high_P.tolist() == [2.375, 2.375]


def test_every_arm_is_compared_with_the_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_training(monkeypatch)
    path, out = write_study(tmp_path, processes=3, reference=None), tmp_path / "o"
    rows = run_study(path, out, quiet=True).report.rows
    losses = next(row for row in rows if (row.task, row.split, row.metric) == ("colours", "val", "loss"))
    assert losses.gap is None
    assert losses.differences is not None
    assert {arm: (each.value, each.error, each.paired) for arm, each in losses.differences.items()} == {
        "own": (-1.0, 0.0, True),
        "mid": (-0.75, 0.0, True),
    }
    rows = report_study(write_study(tmp_path, baseline=None, reference=None), out).report.rows
    assert all(row.differences is None for row in rows)
