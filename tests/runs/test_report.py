"""`uniperceiver report`, and --figures of the commands that have something to draw."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.small_run import small_recipe, train
from tests.studied import without_training, write_study
from uniperceiver.cli import main
from uniperceiver.runs.report import read_results, run_report, training_seconds, write_report


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    shutil.copytree(trained, tmp_path / "run")
    metrics = {"accuracy@1": 0.5, "accuracy@1_low": 0.4, "accuracy@1_high": 0.6, "chance": 0.1, "n": 9}
    (tmp_path / "run" / "results.json").write_text(json.dumps({"tasks": {"colours": {"val": metrics}}}))
    return tmp_path / "run"


def test_the_report_is_written_anew_with_all_figures(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run), "--figures", str(run / "figures")]) == 0
    paths = capsys.readouterr().out.split()
    assert paths[0] == str(run / "report.html")
    assert all(Path(path).is_file() for path in paths)
    names = {Path(path).name for path in paths[1:]}
    assert {"metrics_accuracy_1.pdf", "training_loss.pdf", "training_loss.png", "run.png"} <= names
    before = {path: Path(path).read_bytes() for path in paths}
    assert main(["report", str(run), "--figures", str(run / "figures")]) == 0
    assert {path: Path(path).read_bytes() for path in paths} == before


def test_the_report_says_what_was_trained_on_and_where(run: Path) -> None:
    log = run / "log.jsonl"
    moved = {"step": 3, "event": "machine", "time": 1.0, "device": "cuda:0, Card", "system": "Linux x86_64"}
    versions = {"uniperceiver": "0.1.0", "torch": "2.99", "python": "3.12.1"}
    log.write_text(log.read_text() + json.dumps(moved | versions) + "\n")
    report = run_report(run, read_results(run))
    first, then = report.facts["device"].split("; then ")
    assert first.startswith("cpu, ")
    assert then == "cuda:0, Card (Linux x86_64)"
    assert f"torch {torch.__version__}" in report.facts["versions"]
    assert report.facts["versions"].endswith("; then uniperceiver 0.1.0, torch 2.99, Python 3.12.1")
    assert ("colours", "train", 12) in {(facts.task, facts.split, facts.samples) for facts in report.data}
    log.write_text("".join(line for line in log.read_text().splitlines(True) if '"machine"' not in line))
    assert "device" not in run_report(run, read_results(run)).facts  # of an older version


def test_gates_that_tell_nothing_apart_are_said_where_a_report_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, small_recipe(("colours", "words"), steps=1, moe={"condition": "attribute", "experts": 4}))
    weights = tmp_path / "model" / "model.safetensors"
    tensors = load_file(weights)
    same = {name: tensor * 0 for name, tensor in tensors.items() if ".router." in name}
    assert same
    save_file(tensors | same, weights)
    capsys.readouterr()
    write_report(tmp_path, {"tasks": {}})
    assert capsys.readouterr().err == ""
    write_report(tmp_path, {"tasks": {}}, quiet=False)
    first, said = capsys.readouterr().err.splitlines()
    assert first == "writing the report"
    assert said.startswith("experts: 2 of 2 gates (layer 0 attention, layer 0 ffn): all groups of tokens have the same")


def test_what_is_no_finished_run_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "results.json").unlink()
    assert main(["report", str(run)]) == 2
    assert f"{run / 'results.json'}: is not there; make it with uniperceiver evaluate" in capsys.readouterr().err
    (run / "results.json").write_text("{")
    assert main(["report", str(run)]) == 2
    assert "no JSON; renew it" in capsys.readouterr().err


def test_figures_of_an_evaluation(run: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", str(run), "--task", "colours", "--split", "val", "--figures", str(tmp_path / "figures")]
    assert main(arguments) == 0
    names = [f"{name}.{kind}" for name in ("confusion_colours", "metrics_accuracy_1") for kind in ("pdf", "png")]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == names


def test_figures_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_training(monkeypatch)
    path, figures = write_study(tmp_path), tmp_path / "figures"
    assert main(["study", str(path), "--out", str(tmp_path / "out"), "--figures", str(figures)]) == 0
    assert sorted(path.name for path in figures.glob("*.pdf")) == (
        ["seeds.pdf", "training_loss.pdf", "validation_loss.pdf"]
    )


def test_the_time_of_training_leaves_out_pauses_and_counts_the_first_steps() -> None:
    """The first line is written after steps too; between a stop and the next command nobody trains."""
    steps = [{"time": time} for time in (10.0, 12.0, 14.0, 514.0, 517.0)]
    assert training_seconds(steps) == 2 + 2 + 3 + 3
