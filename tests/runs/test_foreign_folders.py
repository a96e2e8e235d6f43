"""A command writes into a folder that is new, empty or of a run, and a refused one leaves nothing behind."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.refused import files_of
from tests.small_run import TASKS, small_recipe, train, values_of, write_recipe
from tests.studied import write_study
from uniperceiver.cli import main
from uniperceiver.errors import UserError
from uniperceiver.runs.folder import check_same_run, refuse_foreign, saved_recipe
from uniperceiver.runs.prepare import prepare_run

NOT_A_RUN = "and is no run; use another --out, a folder that is new, empty or of a run"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in files_of(folder, "**/*")}


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def fill_with_model(folder: Path, trained: Path) -> None:
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "weights.bin").write_bytes(b"mine")
    (folder / "log.jsonl").write_text("mine\n")


def fill_with_recipe(folder: Path, trained: Path) -> None:
    (folder / "pictures").mkdir(parents=True)
    write_recipe(folder / "recipe.yaml", values_of(("colours",)))


def fill_with_copied_recipe(folder: Path, trained: Path) -> None:
    (folder / "pictures").mkdir(parents=True)
    shutil.copy(trained / "recipe.yaml", folder / "recipe.yaml")


def fill_with_saved_model(folder: Path, trained: Path) -> None:
    shutil.copytree(trained / "model", folder)


@pytest.mark.parametrize(
    "fill",
    [fill_with_model, fill_with_recipe, fill_with_copied_recipe, fill_with_saved_model],
    ids=lambda f: f.__name__,
)
def test_a_folder_of_somebody_else_is_left_alone(
    fill: Callable[[Path, Path], None], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, study = write_recipe(tmp_path / "r.yaml", values_of(("colours",))), write_study(tmp_path / "s")
    fill(tmp_path / "mine", trained)
    before = contents(tmp_path)
    out = ["--out", str(tmp_path / "mine")]
    for words in (
        ["train", str(recipe), *out],
        ["tune", str(trained), str(recipe), *out],
        ["demo", *out],
        ["train", str(tmp_path / "mine" / "recipe.yaml"), *out],
    ):
        if Path(words[1]).name != "recipe.yaml" or Path(words[1]).is_file():
            assert NOT_A_RUN in refused(words, capsys)
    assert "is no study; use another --out" in refused(["study", str(study), *out], capsys)
    assert contents(tmp_path) == before


def test_a_data_folder_with_cells_is_no_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "slides" / "cells").mkdir(parents=True)
    (tmp_path / "slides" / "report.html").write_text("mine")
    words = ["study", str(write_study(tmp_path / "s")), "--out", str(tmp_path / "slides")]
    assert "holds other files, such as cells, and is no study" in refused(words, capsys)


def test_folders_of_runs_are_known(trained: Path, tmp_path: Path) -> None:
    for folder in (trained, tmp_path, tmp_path / "new" / "deeper"):
        refuse_foreign(folder)
    (tmp_path / ".lock").touch()
    (tmp_path / ".uniperceiver-tmp-recipe.yaml-12345678").touch()
    refuse_foreign(tmp_path)  # a start that was killed
    shutil.copy(trained / "recipe.yaml", tmp_path / "recipe.yaml")
    refuse_foreign(tmp_path)  # another one, between its two first files
    for place in (tmp_path / "recipe.yaml", tmp_path / "recipe.yaml" / "run"):
        with pytest.raises(UserError, match="cannot be written"):
            refuse_foreign(place)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks__colours__size": 33}, "not a multiple of the patch side"),
        ({"device": "abacus"}, "device 'abacus'"),
        ({"model__vocabulary": 10}, "10"),
        ({"interference": {"watch": True, "parameters": "nothing"}}, "nothing"),
        ({"log__tensorboard": True}, "needs the package tensorboard"),
    ],
)
def test_a_refused_start_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], message: str
) -> None:
    monkeypatch.setattr("uniperceiver.runs.checks.recipe.find_spec", lambda name: None)
    with pytest.raises(UserError, match=message):
        train(tmp_path / "deep" / "run", small_recipe(**changes))
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_leave_no_folder(tmp_path: Path) -> None:
    run = prepare_run(small_recipe(("colours",)), tmp_path, tmp_path / "deep" / "run", quiet=True)
    next(run.state.model.parameters()).data.fill_(float("nan"))
    with pytest.raises(UserError, match="are not finite"):
        run.train()
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_somebody_in_the_model_of_a_run_is_not_lost(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "model" / ".DS_Store").touch()
    check_same_run(saved_recipe(tmp_path / "run")[0], tmp_path / "run")
    (tmp_path / "run" / "model" / "notes.txt").write_text("mine")
    with pytest.raises(
        UserError, match=r"model/notes\.txt: is none of the model's files, and would be lost .*; move it"
    ):
        check_same_run(saved_recipe(tmp_path / "run")[0], tmp_path / "run")


def test_reports_are_written_into_runs_alone(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(trained / "model", tmp_path / "mine" / "model")
    write_recipe(tmp_path / "mine" / "recipe.yaml", values_of(tuple(TASKS)))
    (tmp_path / "mine" / "results.json").write_text('{"tasks": {}}')
    before = contents(tmp_path)
    assert "mine: not a run, so no report is written there" in refused(["report", str(tmp_path / "mine")], capsys)
    words = ["interference", str(tmp_path / "mine"), "--task", "colours", "--task", "motions", "--batches", "2"]
    assert main([*words, "--batch", "2"]) == 0
    assert contents(tmp_path) == before
