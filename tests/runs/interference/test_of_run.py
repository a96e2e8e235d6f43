"""`uniperceiver interference RUN`: every kind of run, both ways to measure, the files it writes, what it refuses."""

import json
import shutil
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.converted import MOE
from tests.converted import run as convert
from tests.model.official.made_up import write
from tests.small_run import IMAGES, TASKS, TEXTS, small_recipe, train, values_of, write_recipe
from uniperceiver import load
from uniperceiver.cli import main
from uniperceiver.interference import InterferenceEstimate
from uniperceiver.interference.records import Interference, InterferenceLayer, as_values, from_values, read_measurements
from uniperceiver.runs.interference.of_run import InterferenceSettings, interference_of_run

THREE = ("colours", "words", "captions")
ROUTINGS = ("shared", "task_specific", "modality", "task", "attribute", "token", "context")
# Wide enough apart for every batch to have samples of its own.
DATA: dict[str, Any] = {
    "tasks.colours.train": {**IMAGES, "items": 60, "label": "colour"},
    "tasks.words.train": {**TEXTS, "items": 60},
    "tasks.captions.train": {**IMAGES, "items": 60},
}


def run_of(folder: Path, condition: str, **more: Any) -> Path:
    section = {"moe": {"condition": condition, "experts": 4}} if condition != "shared" else {}
    train(
        folder,
        small_recipe(THREE, **{name.replace(".", "__"): value for name, value in DATA.items()}, **section, **more),
    )
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a checkpoint of every other step; nobody may change it."""
    return run_of(tmp_path_factory.mktemp("lab") / "shared", "shared", checkpoint={"every": 2, "keep": 9})


def row(layer: InterferenceLayer, name: str) -> np.ndarray:
    table: np.ndarray = getattr(layer.estimate, f"{name}_KK")
    return table


@pytest.mark.parametrize("condition", ROUTINGS)
def test_every_routing_is_measured_and_steps_agree_with_gradients(tmp_path: Path, condition: str) -> None:
    run = run_of(tmp_path / "run", condition)
    measured = interference_of_run(run, InterferenceSettings(batches=3))
    assert measured.tasks == THREE
    assert measured.step == 4
    (layer,) = measured.layers
    assert (layer.name, layer.layer) == ("encoder.blocks.0.ffn.linear2.weight", 0)
    cosine_KK = row(layer, "cosine")
    assert np.isfinite(cosine_KK).all()
    stepped = interference_of_run(run, InterferenceSettings(batches=3, by_steps=True))
    np.testing.assert_allclose(row(stepped.layers[0], "cosine"), cosine_KK, atol=1e-3)
    apart = condition == "task_specific"
    assert (np.abs(cosine_KK[~np.eye(3, dtype=bool)]) < 1e-12).all() == apart


def test_gates_blocks_and_single_matrices(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", "attribute")
    for pattern in (
        "encoder.blocks.*",
        "encoder.blocks.*.attention",
        "encoder.blocks.0.ffn.router",
        "head.linear.weight",
    ):
        measured = interference_of_run(run, InterferenceSettings(batches=2, parameters=pattern))
        assert [layer.name for layer in measured.layers] == [pattern.replace("*", "0")]


def test_a_checkpoint_a_split_some_tasks_and_other_batches(shared: Path) -> None:
    first = interference_of_run(shared, InterferenceSettings(batches=2, step=2))
    last = interference_of_run(shared, InterferenceSettings(batches=2, step=4))
    assert (first.step, last.step) == (2, 4)
    assert as_values(first)["layers"] != as_values(last)["layers"]
    assert as_values(last) == as_values(interference_of_run(shared, InterferenceSettings(batches=2)))
    two = interference_of_run(
        shared, InterferenceSettings(batches=2, tasks=("captions", "words"), split="val", batch=5)
    )
    assert two.tasks == ("words", "captions")


def test_converted_and_saved_models_need_data(shared: Path, tmp_path: Path) -> None:
    load(shared).save_pretrained(tmp_path / "saved")
    recipe = write_recipe(tmp_path / "r.yaml", values_of(THREE))
    measured = interference_of_run(tmp_path / "saved", InterferenceSettings(batches=2), recipe)
    assert measured.step == 0
    assert len(measured.layers) == 1


def test_converted_experts_are_measured(tmp_path: Path) -> None:
    converted = convert(write(tmp_path / "moe.pth", MOE))
    values = values_of(THREE)
    values["tasks"]["words"]["length"] = values["tasks"]["captions"]["length"] = 16
    recipe = write_recipe(tmp_path / "r.yaml", values)
    measured = interference_of_run(converted, InterferenceSettings(batches=2, batch=2), recipe)
    assert all("ffn.linear2.weight" in layer.name for layer in measured.layers)
    assert np.isfinite(row(measured.layers[0], "cosine")).all()


def test_the_command_writes_json_its_report_and_tables(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(shared, run)
    (run / "results.json").write_text(json.dumps({"tasks": {}}))
    (run / "tensorboard").mkdir()
    assert main(["interference", str(run), "--batches", "12", "--batch", "4", "--json", str(tmp_path / "i.json")]) == 0
    shown = capsys.readouterr().out
    assert "encoder.blocks.0.ffn.linear2.weight" in shown
    values = json.loads((tmp_path / "i.json").read_text())
    assert values["tasks"] == list(THREE)
    assert values["parameters"] == "encoder.blocks.*.ffn.linear2.weight"
    (layer,) = values["layers"]
    keys = {"name", "matrix", "low", "high", "matrix_mean_of_ratios", "cosine", "conflict_rate"}
    assert keys <= layer.keys()
    assert all(np.shape(layer[name]) == (3, 3) for name in keys - {"name"})
    assert all(value is None or 0 <= value <= 1 for line in layer["conflict_rate"] for value in line)
    (kept,) = read_measurements(run, [])
    assert as_values(kept) == as_values(from_values(values))
    assert json.loads(json.dumps(as_values(kept))) == values
    page = (run / "report.html").read_text()
    assert "Interference" in page
    if find_spec("tensorboard"):
        (events,) = (run / "tensorboard").iterdir()
        assert b"interference/encoder.blocks.0.ffn.linear2.weight/words<-captions" in events.read_bytes()
    assert "helps" in page


def test_measurements_of_the_log_and_of_files_stand_beside_each_other(tmp_path: Path) -> None:
    table_KK = np.array(((1.0, np.nan), (0.5, 1.0)))
    estimate = InterferenceEstimate(**dict.fromkeys((field.name for field in fields(InterferenceEstimate)), table_KK))
    layer = InterferenceLayer(name="m", layer=0, estimate=estimate)
    of_log = [Interference(step=s, tasks=("a", "b"), parameters="m", batches=2, layers=(layer,)) for s in (20, 40)]
    log = [{"event": "interference", "time": 1.0, "overhead": 0.1, **as_values(measured)} for measured in of_log]
    (tmp_path / "interference").mkdir()
    newer = {**as_values(of_log[1]), "batches": 100}
    (tmp_path / "interference" / "step-000040.json").write_text(json.dumps(newer))
    measurements = read_measurements(tmp_path, [{"event": "train", "step": 1}, *log])
    assert [(measured.step, measured.batches) for measured in measurements] == [(20, 2), (40, 100)]


REFUSED = {
    "one task": (["--task", "words"], "at least two are needed"),
    "unknown task": (["--task", "words", "caption"], "--task: no task 'caption'; did you mean 'captions'?"),
    "one batch": (["--batches", "1"], "--batches: at least 2"),
    "no samples": (["--batch", "0"], "--batch: 0 is no number of samples"),
    "pattern": (["--parameters", "encoder.blocks.*.fnn"], "did you mean 'encoder.blocks.*.ffn'?"),
    "not reached": (
        ["--batches", "2", "--parameters", "tokenizer.patches.project.weight"],
        "task 'words': has no gradient on tokenizer.patches.project.weight",
    ),
    "step": (["--step", "3"], "no checkpoint of step 3, only of 2, 4"),
    "split": (["--split", "test"], "tasks.colours: has no split 'test'; --split can be one of train, val"),
    "too many": (["--batches", "21"], "tasks.colours: its 60 samples are 20 batches of 3; ask for fewer batches"),
    "folder": (["--json", "."], "--json: . is a folder; name a file in it"),
    "json": (["--json", "nowhere/i.json"], "--json: there is no folder nowhere"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(shared: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    words, message = REFUSED[name]
    assert main(["interference", str(shared), *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_without_a_number_all_samples_are_used(shared: Path) -> None:
    assert interference_of_run(shared, InterferenceSettings()).batches == 20


def test_all_kinds_of_tasks_at_once(trained: Path) -> None:
    measured = interference_of_run(trained, InterferenceSettings(batches=2))
    assert measured.tasks == tuple(TASKS)
