"""`uniperceiver tune`: from a model and a folder to an adapted model that can be asked, measured and stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.small_run import log_lines, same_tensors, write_recipe
from tests.tuned import QUICK, state_of, tuning_values, write_pictures
from uniperceiver import load
from uniperceiver.cli import main
from uniperceiver.training.stop import EXIT_CODE

ROOT = Path(__file__).parents[2]


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_folder_in_one_command(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = write_pictures(tmp_path / "things"), tmp_path / "run"
    words = ["tune", str(trained), str(folder), "--out", str(out), *QUICK]
    results = told(capsys, *words)
    assert set(results["tasks"]["things"]) == {"train", "val"}
    assert Path(results["report"]).is_file()
    assert (out / "model/tuned.safetensors").is_file()
    one = next(folder.rglob("*.png"))
    (answer,) = told(capsys, "predict", str(out), "classify", "--task", "things", str(one))
    assert set(answer["scores"]) == {path.name for path in folder.iterdir()}
    facts = told(capsys, "info", str(out))
    assert facts["tuned"]["prompts"] == "10 prompts in each layer, a linear head for 3 classes"
    assert facts["tuned"]["beside the model"] == str(trained / "model")
    tuned = [each.numel() for name, each in load(out).model.named_parameters() if "prompts" in name or "norm" in name]
    assert facts["tuned"]["parameters"] == sum(tuned)
    assert "beside the model" not in json.dumps(told(capsys, "info", str(trained)))
    assert main(["evaluate", str(out)]) == 0
    assert main(["steps=3" if word.startswith("steps=") else word for word in words]) == 0  # goes on
    assert [line["step"] for line in log_lines(out, "train")][-1] == 3


def test_a_method_and_a_share(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = write_pictures(tmp_path / "things", each=10), tmp_path / "run"
    results = told(
        capsys, "tune", str(trained), str(folder), *QUICK, "--method", "full", "--fraction", "0.125", "--out", str(out)
    )
    assert results["tasks"]["things"]["train"]["n"] == 3
    assert (out / "model/model.safetensors").is_file()
    assert yaml.safe_load((out / "recipe.yaml").read_text())["tune"]["method"] == "full"


def test_a_recipe_with_paths_of_its_own(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "val"):
        write_pictures(tmp_path / "here" / split)
    task = {"kind": "image_classification", "size": 32, "batch": 4}
    task |= {split: {"format": "folder", "path": split} for split in ("train", "val")}
    values = {"tasks": {"mine": task}, "tune": {"vectors": 0, "labels": True}}
    path = write_recipe(tmp_path / "here/r.yaml", values)
    assert main(["tune", str(trained), str(path), "--out", str(tmp_path / "run"), *QUICK]) == 0
    shape = load(tmp_path / "run").saved.arch.prompts
    assert shape is not None
    assert (shape.vectors, shape.classes, shape.labels) == (0, 0, 3)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{tmp}/no", "{things}"], "neither a saved model"),
        (["{run}", "{tmp}/no"], "no: no such file or folder; give a recipe (YAML), or a folder of pictures"),
        (["{run}", "{things}", "tune.head=maybe"], "key 'tune.head' has a wrong value 'maybe'"),
        (["{run}", "{things}", "--fraction", "0.001"], "tune.fraction: from 0 to 0.001 of 12 samples there is none"),
        (["{run}", "{things}", "--fraction", "2"], "key 'tune.fraction' has a wrong value 2"),
        (["{run}", "{things}", "--method", "full", "tune.vectors=3"], "tune.vectors: only with tune.method=prompt"),
        (["{run}", "{things}", "model.width=32"], "model.width: a model that is tuned keeps its own"),
    ],
)
def test_mistakes_are_one_line(
    trained: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"tmp": tmp_path, "run": trained, "things": write_pictures(tmp_path / "things")}
    assert main(["tune", *[word.format(**places) for word in words], "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("uniperceiver: ")
    assert message in line
    assert not (tmp_path / "out/recipe.yaml").exists()


@pytest.mark.slow
def test_a_process_that_is_terminated_goes_on_bit_for_bit(trained: Path, tmp_path: Path) -> None:
    changes = {"steps": 60, "data__workers": 1, "optimiser__ema": 0.9, "tune__head": True}
    path = write_recipe(tmp_path / "r.yaml", tuning_values(trained, **changes))
    command = [sys.executable, "-m", "uniperceiver", "tune", str(trained), str(path), "--out", str(tmp_path / "parts")]
    process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (tmp_path / "parts/log.jsonl").is_file() or len(log_lines(tmp_path / "parts", "train")) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it does not get on"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == EXIT_CODE, said
    steps = len(log_lines(tmp_path / "parts", "train"))
    assert 3 <= steps < 60
    assert (tmp_path / f"parts/checkpoints/step-{steps:06d}").is_dir()
    for name in ("parts", "whole"):
        assert main(["tune", str(trained), str(path), "--out", str(tmp_path / name)]) == 0
    assert [line["step"] for line in log_lines(tmp_path / "parts", "train")] == list(range(1, 61))
    assert same_tensors(state_of(load(tmp_path / "parts")), state_of(load(tmp_path / "whole")))
