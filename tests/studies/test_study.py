"""Cells of a study are trained once, go on, fail alone and stop together; their figures become tables."""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.markdown import ROOT
from tests.small_run import log_lines, small_recipe
from tests.studied import ARMS, started, without_training, write_study
from uniperceiver.atomic import only_one
from uniperceiver.cli import main
from uniperceiver.errors import UserError
from uniperceiver.runs.folder import save_recipe
from uniperceiver.studies import run as study_run
from uniperceiver.studies.cells import step_seconds, write_outcome
from uniperceiver.studies.plan import read_plan
from uniperceiver.studies.records import MetricRow
from uniperceiver.studies.study import report_study, run_study

ALL = sorted(f"{arm} {seed}" for arm in ARMS for seed in (0, 1))


def row_of(rows: list[MetricRow], task: str, metric: str, split: str = "val") -> MetricRow:
    (row,) = [row for row in rows if (row.task, row.metric, row.split) == (task, metric, split)]
    return row


def test_the_command_of_a_cell_is_that_of_a_run(tmp_path: Path) -> None:
    plan = read_plan(write_study(tmp_path, arms={"shared": {}, "own": {"optimiser.betas": [0, 0.5]}}), tmp_path / "o")
    _, *words = study_run.command_of(plan, plan.cells[1])
    folder = str(tmp_path / "o/cells/own/seed-0")
    overrides = ["optimiser.betas=[0, 0.5]", "seed=0"]
    recipe = str((tmp_path / "recipe.yaml").resolve())
    assert words == ["-m", "uniperceiver", "train", recipe, *overrides, "--out", folder, "--json"]


def test_words_in_front_of_a_command_launch_it_elsewhere(tmp_path: Path) -> None:
    plan = read_plan(write_study(tmp_path, launch=["srun", "--gpus=1"]), tmp_path / "o")
    words = study_run.command_of(plan, plan.cells[0])
    assert words[:2] == ["srun", "--gpus=1"]
    assert words[3:6] == ["-m", "uniperceiver", "train"]


def test_figures_of_all_cells_become_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_training(monkeypatch)
    path = write_study(tmp_path, processes=3, single="own", set={"optimiser.clip": 0.5})
    studied = run_study(path, tmp_path / "o", quiet=True)
    assert (studied.failed, studied.stopped) == (0, False)
    assert sorted(started(tmp_path / "o")) == ALL
    rows = list(studied.report.rows)
    losses = row_of(rows, "colours", "loss")
    assert (losses.lower, losses.first, losses.is_gap) == (True, True, True)
    assert losses.arms["shared"].seeds == {0: 3.0, 1: 3.125}
    assert losses.arms["shared"].error == pytest.approx(0.0625)
    assert losses.gap is not None
    assert (losses.gap.value, losses.gap.error, losses.gap.paired) == (-1.0, 0.0, True)
    assert losses.closed is not None
    assert {arm: closed.value for arm, closed in losses.closed.items()} == {"mid": pytest.approx(0.75)}
    equal = row_of(rows, "colours", "accuracy@1")
    assert (equal.is_gap, equal.closed, equal.lower, equal.first) == (False, None, False, False)
    arms = {arm.name: arm for arm in studied.report.arms}
    # loss of colours: 2.3125 against 2.0625; captions are alike, and were not measured in training
    delta = arms["mid"].delta
    assert delta is not None
    assert delta["val"].value == pytest.approx(-(0.25 / 2.0625) / 2)
    assert delta["train"].value == pytest.approx(-0.25 / 2.0625)
    assert arms["own"].delta is None
    assert arms["mid"].keys == {"moe.condition": "attribute"}
    ratio = arms["mid"].time_ratio
    assert ratio is not None
    assert ratio.value == pytest.approx(1)
    tables = json.loads((tmp_path / "o/study.json").read_text())
    assert {"title", "arms", "rows", "failures", "baseline"} <= tables.keys()
    assert "gap closed 75.0" in (tmp_path / "o/report.html").read_text(encoding="utf-8")


def test_a_cell_is_written_as_it_ends_and_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_training(monkeypatch)
    path, out = write_study(tmp_path), tmp_path / "o"
    run_study(path, out, quiet=True)
    first = (out / "study.json").read_text()
    cell = json.loads((out / "cells/mid/seed-1.json").read_text())
    assert {key: cell[key] for key in ("arm", "seed", "state", "exit_code", "steps")} == {
        "arm": "mid", "seed": 1, "state": "done", "exit_code": 0, "steps": 4}  # fmt: skip
    assert cell["overrides"] == {"moe.condition": "attribute", "seed": "1"}
    assert cell["results"]["colours"]["val"]["loss"] == 2.375
    assert cell["step_seconds"] == pytest.approx(1.5)
    started(out)
    run_study(path, out, quiet=True)
    assert started(out) == []
    assert (out / "study.json").read_text() == first
    (out / "cells/mid/seed-1.json").unlink()
    more = run_study(write_study(tmp_path, seeds=3, threads=1), out, quiet=True)  # threads change no figure
    assert sorted(started(out)) == ["mid 1", "mid 2", "own 2", "shared 2"]
    assert row_of(list(more.report.rows), "colours", "loss").arms["mid"].seeds == {0: 2.25, 1: 2.375, 2: 2.5}


def test_a_failed_cell_stops_no_other_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_study(tmp_path), tmp_path / "o"
    without_training(monkeypatch, {"fail": ["shared"]})
    assert main(["study", str(path), "--out", str(out)]) == 1
    output = capsys.readouterr()
    assert "2 of 6 runs failed; the same command tries them again" in output.err
    assert "shared, seed 0: failed (exit code 1)" in output.err
    assert "0, 2 failed" in output.out
    assert sorted(started(out)) == ALL
    cell = json.loads((out / "cells/shared/seed-0.json").read_text())
    assert (cell["state"], cell["results"]) == ("failed", {})
    assert cell["last_lines"] == [f"line {n}" for n in range(10, 30)]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "shared, seed 1: exit code 1" in page
    assert "line 29" in page
    without_training(monkeypatch)
    assert main(["study", str(path), "--out", str(out), "--json"]) == 0
    assert sorted(started(out)) == ["shared 0", "shared 1"]
    assert not json.loads(capsys.readouterr().out)["failures"]
    (out / "cells/mid/seed-0.json").unlink()
    without_training(monkeypatch, {"fail": ["mid"]})
    assert main(["study", str(path), "--out", str(out)]) == 1
    assert not json.loads((out / "cells/mid/seed-0.json").read_text())["results"]  # though there are old ones


def test_arms_with_other_seeds_are_not_paired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = write_study(tmp_path, seeds=3), tmp_path / "o"
    without_training(monkeypatch)
    run_study(path, out, quiet=True)
    (out / "cells/own/seed-2.json").unlink()
    losses = row_of(list(report_study(path, out).report.rows), "colours", "loss")
    assert losses.gap is not None
    assert not losses.gap.paired
    # standard errors 0.125 / sqrt(3) and 0.0625 of the means
    assert losses.gap.error == pytest.approx((0.125**2 / 3 + 0.0625**2) ** 0.5)


def test_a_cell_of_another_recipe_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_training(monkeypatch)
    path, out = write_study(tmp_path), tmp_path / "o"
    run_study(path, out, quiet=True)
    started(out)
    other = write_study(tmp_path, set={"optimiser.clip": 2.0})
    with pytest.raises(UserError, match=r"seed-0.json: was made with optimiser.clip=1.0, the study says 2.0; use a"):
        run_study(other, out, quiet=True)
    with pytest.raises(UserError, match=r"seed-0.json: was made with optimiser.clip=1.0"):
        report_study(other, out)
    sources = {"tasks.colours.train": {"format": "folder", "path": "gone"}}
    with pytest.raises(UserError, match=r"seed-0.json: was made with tasks.colours.train"):
        report_study(write_study(tmp_path, set=sources), out)  # no data are opened
    recipe = small_recipe(steps=4, moe__condition="attribute", seed=1)
    save_recipe(recipe, tmp_path, out / "cells/mid/seed-1")
    assert not run_study(write_study(tmp_path), out, quiet=True).failed
    save_recipe(small_recipe(steps=4, moe__condition="token", seed=1), tmp_path, out / "cells/mid/seed-1")
    with pytest.raises(UserError, match=r"mid/seed-1: holds a run with moe.condition='token', the recipe says 'attr"):
        run_study(write_study(tmp_path), out, quiet=True)
    save_recipe(recipe, tmp_path, out / "cells/mid/seed-1")
    with pytest.raises(UserError, match=r"mid/seed-1: was made with steps=4, the study says 8"):
        run_study(write_study(tmp_path, set={"steps": 8}, arms={"mid": ARMS["mid"]}, seeds=[1], baseline=None,
                              reference=None), out, quiet=True)  # fmt: skip
    assert started(out) == []


def test_other_settings_of_the_evaluation_measure_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_training(monkeypatch)
    changes: dict[str, Any] = {"arms": {"mid": ARMS["mid"]}, "seeds": [1], "baseline": None, "reference": None}
    run_study(write_study(tmp_path, **changes), tmp_path / "o", quiet=True)
    recipe = small_recipe(steps=4, moe__condition="attribute", seed=1)
    save_recipe(recipe, tmp_path, tmp_path / "o/cells/mid/seed-1")
    run_study(write_study(tmp_path, **changes, set={"evaluation.max_words": 6}), tmp_path / "o", quiet=True)
    assert started(tmp_path / "o") == ["mid 1", "mid 1"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_runs_and_keeps_what_is_done(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_training(monkeypatch, {"wait": ["own"]})
    path, out = write_study(tmp_path, processes=2), tmp_path / "o"
    both = [out / f"cells/own/seed-{seed}/waiting" for seed in (0, 1)]

    def send() -> None:
        for _ in range(400):
            if all(path.is_file() for path in both):
                break
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    assert main(["study", str(path), "--out", str(out)]) == 75
    thread.join()
    assert all(path.is_file() for path in both)
    assert "stopped; the same command goes on from there" in capsys.readouterr().err
    assert "mid 1" not in started(out)
    assert not list(out.glob("cells/own/*.json"))
    without_training(monkeypatch)
    assert main(["study", str(path), "--out", str(out)]) == 0
    assert sorted(started(out)) == ["mid 1", "own 0", "own 1"]


def test_cells_with_other_data_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_training(monkeypatch)
    path, out = write_study(tmp_path, seeds=1), tmp_path / "o"
    run_study(path, out, quiet=True)
    assert "its data" not in capsys.readouterr().err
    facts = {"classes": ["a"], "texts": "1", "splits": {"train": {"samples": 3, "some": "x"}}}
    for arm, samples in (("shared", 3), ("own", 4), ("mid", 3)):
        cell = out / "cells" / arm / "seed-0.json"
        changed = {**facts, "splits": {"train": {"samples": samples, "some": "x"}}}
        cell.write_text(json.dumps(json.loads(cell.read_text()) | {"data": {"colours": changed}}))
    report_study(path, out)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("own, seed 0: its data of task 'colours' were others than those of shared, seed 0; remove")


def test_what_a_cell_was_trained_on_is_kept(trained: Path, tmp_path: Path) -> None:
    cell = read_plan(write_study(tmp_path), tmp_path / "o").cells[0]
    cell.folder.parent.mkdir(parents=True)
    shutil.copytree(trained, cell.folder)
    (cell.folder / "results.json").write_text('{"tasks": {}}')
    data = write_outcome(cell, 0).data
    assert data["colours"]["splits"]["train"]["samples"] == 12
    assert json.loads(cell.folder.with_name("seed-0.json").read_text())["data"] == data


def test_only_one_process_works_on_a_study(tmp_path: Path) -> None:
    path, out = write_study(tmp_path), tmp_path / "o"
    out.mkdir()
    with only_one(out), pytest.raises(UserError, match="another process works on this study; wait for it"):
        run_study(path, out, quiet=True)


def test_a_metric_that_a_task_does_not_have_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_training(monkeypatch)
    path, out = write_study(tmp_path, measure={"colours": "acuracy@1"}), tmp_path / "o"
    with pytest.raises(UserError, match=r"task 'colours' has no metric 'acuracy@1'; did you mean 'accuracy@1'\?"):
        run_study(path, out, quiet=True)
    assert len(started(out)) < len(ALL)


def test_the_time_of_a_step_leaves_out_evaluations_and_pauses() -> None:
    times = [(1, "train", 0.0), (2, "train", 2.0), (2, "evaluate", 9.0), (4, "train", 10.0), (6, "train", 16.0)]
    log = [{"step": step, "event": event, "time": time} for step, event, time in times]
    assert step_seconds(log) == pytest.approx(8 / 3)
    later = [{"step": step, "event": "train", "time": time} for step, time in ((8, 116.0), (9, 117.0))]
    assert step_seconds([*log, *later]) == pytest.approx(9 / 4)
    assert step_seconds(log[:1]) is None


def test_lines_far_apart_are_no_pauses() -> None:
    """A line every fifty steps takes fifty times the usual time of a step."""
    times = [(50, 0.0), (100, 10.0), (150, 22.0), (200, 400.0), (201, 400.2)]
    log = [{"step": step, "event": "train", "time": time} for step, time in times]
    assert step_seconds(log) == pytest.approx(22.2 / 101)


def test_tables_without_cells_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", str(write_study(tmp_path)), "--out", str(tmp_path / "o"), "--report-only"]) == 2
    assert "o: holds no cell of this study; give the folder of its --out" in capsys.readouterr().err


@pytest.mark.slow
def test_the_example_is_trained_and_adopted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For real, but with one seed: one run was made by hand before."""
    example = (ROOT / "examples/study.yaml").read_text(encoding="utf-8")
    path, out = tmp_path / "study.yaml", tmp_path / "o"
    path.write_text(example.replace("seeds: 2", "seeds: 1").replace("../uniperceiver", str(ROOT / "uniperceiver")))
    plan = read_plan(path, out)
    assert main(study_run.command_of(plan, plan.cells[0])[3:]) == 0
    lines = log_lines(plan.cells[0].folder, "train")
    capsys.readouterr()
    assert main(["study", str(path), "--out", str(out), "--json"]) == 0
    tables = json.loads(capsys.readouterr().out)
    assert [(arm["name"], arm["done"]) for arm in tables["arms"]] == [
        (arm, [0]) for arm in ("shared", "task_specific", "attribute")
    ]
    assert all(arm["parameters"] > 20_000 and arm["step_seconds"]["mean"] > 0 for arm in tables["arms"])
    assert log_lines(plan.cells[0].folder, "train") == lines  # with their times: not one step was made again
    assert main(["study", str(path), "--out", str(out), "--report-only"]) == 0
    assert "task_specific" in capsys.readouterr().out
