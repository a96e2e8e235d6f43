"""Broken samples: the check names them; training and evaluation leave them out, count each once, and say so."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faulty_data import KINDS
from tests.small_run import BASE, log_lines, train
from uniperceiver import evaluate
from uniperceiver.config import Recipe
from uniperceiver.data.prepare.check import check_data
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.serving.locate import model_folder
from uniperceiver.strict import parse
from uniperceiver.training.loop import Run

COUNT, SPOILED, BATCH = 13, 6, 5
GOOD = 8


def recipe_of(name: str, **changes: Any) -> Recipe:
    """A recipe on one of the sets, which it sees twice, and evaluates twice."""
    source: Mapping[str, Any] = KINDS[name].source
    task = {**KINDS[name].task, "train": source, "val": source, "batch": BATCH, "size": 32, "frames": 2}
    values = {
        **BASE,
        "tasks": {name: task},
        "steps": 8,
        "sampling": {"tasks_per_step": 1},
        "evaluation": {"every": 4, "batch": 4, "max_words": 2},
        **changes,
    }
    return parse(Recipe, values, "recipe")


def train_beside(folder: Path, recipe: Recipe) -> Run:
    """Train in `folder/run` on data that lie in `folder`."""
    run = prepare_run(recipe, folder, folder / "run", quiet=True)
    run.train()
    return run


@pytest.mark.parametrize("name", KINDS)
def test_broken_samples(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind = KINDS[name]
    faults = {1 + 2 * place: fault for place, fault in enumerate(kind.faults)}  # good ones are between them
    count = GOOD + 2 * len(faults)
    names = kind.write(tmp_path / name, count, faults)
    reasons = {names[index]: kind.faults[fault].lower() for index, fault in faults.items()}
    recipe = recipe_of(name, data={"workers": 0, "max_broken": 0.9})

    report = check_data(recipe, tmp_path, 0, find_model=model_folder, quiet=True)
    assert not report.clean
    assert (report.samples, report.broken) == (count, len(faults))
    assert {fault.sample for fault in report.sets[0].faults} == set(reasons)
    for found in report.sets[0].faults:
        assert reasons[found.sample] in found.reason.lower()
        assert found.uses == (f"{name}/train", f"{name}/val")

    run = train_beside(tmp_path, recipe)
    assert (run.state.step, run.state.skipped) == (8, 0)
    assert sum(run.state.consumed) > count
    lines = log_lines(tmp_path / "run", "broken")
    once = [(task, sample) for task in (name, f"{name}/val") for sample in reasons]
    assert sorted((line["task"], line["sample"]) for line in lines) == sorted(once)
    assert all(reasons[line["sample"]] in line["reason"].lower() for line in lines)
    assert capsys.readouterr().err.replace("\n", "").count("broken sample left out: ") == 2 * len(faults)

    figures = evaluate(tmp_path / "run", splits=("val",))["tasks"][name]["val"]
    assert figures["n"] == count - len(faults) or name == "lines"  # where words are counted
    said = capsys.readouterr().err.replace("\n", "")
    assert all(said.count(f"broken sample left out: {name}: {sample}: ") == 1 for sample in reasons)


def test_two_are_too_many(tmp_path: Path) -> None:
    KINDS["pictures"].write(tmp_path / "pictures", COUNT, {1: "html", SPOILED: "empty"})
    recipe = recipe_of("pictures")
    assert check_data(recipe, tmp_path, 0, find_model=model_folder, quiet=True).sets[0].stops == (
        "pictures/train",
        "pictures/val",
    )
    with pytest.raises(UserError, match=r"^task 'pictures': 2 of 13 samples are broken, the last .*/00000[16]\.jpg: "):
        train_beside(tmp_path, recipe)
    for share, enough in ((1.9 / COUNT, False), (2 / COUNT, True)):
        recipe = recipe_of("pictures", data={"workers": 0, "max_broken": share})
        report = check_data(recipe, tmp_path, 0, find_model=model_folder, quiet=True).sets[0]
        assert report.stops == (() if enough else ("pictures/train", "pictures/val"))
    assert train_beside(tmp_path, recipe).state.step == 8


def test_a_name_that_no_log_could_write_is_mended() -> None:
    error = BrokenSample("a\udcff.jpg", "half \ud83d\n of it")
    assert str(error) == "a?.jpg: half ? of it"
    assert str(error).encode()


def test_a_broken_sample_is_named_once_also_after_a_stop(tmp_path: Path) -> None:
    sample = KINDS["rows"].write(tmp_path / "rows", COUNT, {SPOILED: "nan"})[SPOILED]
    values = {"tasks": {"rows": {**KINDS["rows"].task, "train": {**KINDS["rows"].source}, "batch": BATCH}}}
    values["tasks"]["rows"]["train"]["path"] = str(tmp_path / "rows" / "rows.jsonl")
    values["tasks"]["rows"]["val"] = values["tasks"]["rows"]["train"]
    recipe = parse(Recipe, {**BASE, **values, "steps": 6, "evaluation": {"every": 2, "batch": 4}}, "recipe")
    folder = tmp_path / "run"
    folder.mkdir()
    train(folder, recipe, stop_after=3)
    train(folder, recipe)
    assert [line["task"] for line in log_lines(folder, "broken") if line["sample"] == sample] == ["rows", "rows/val"]
