"""The examples run, and do what they say."""

from pathlib import Path

import pytest

from examples import new_task, own_data
from tests.markdown import ROOT
from uniperceiver.commands.recipe import read_recipe
from uniperceiver.training.log import read_log


def test_a_new_task_is_trained_and_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new_task.main(tmp_path / "questions", steps=2)
    lines = capsys.readouterr().out.splitlines()
    assert sum("is it large ?" in line for line in lines) == 2
    assert sum("what colour is it ?" in line for line in lines) == 2


@pytest.mark.slow
def test_a_new_task_is_learnt(tmp_path: Path) -> None:
    new_task.main(tmp_path)
    events = read_log(tmp_path)
    losses = [line["questions/loss"] for line in events if line["event"] == "train"]
    (*_, last) = [line for line in events if line["event"] == "evaluate"]
    assert losses[-1] < 0.6 * losses[0]
    assert last["questions/val/accuracy@1"] > last["questions/val/chance"] + 0.2


def test_a_task_is_declared_in_one_line_that_needs_no_parameter() -> None:
    text = (ROOT / "examples/new_task.py").read_text(encoding="utf-8")
    assert sum(line.startswith("TASK = Task(") and ")" in line for line in text.splitlines()) == 1
    assert "Parameter" not in text


def test_the_small_data_set_is_what_the_recipe_names(tmp_path: Path) -> None:
    own_data.main(tmp_path, train=14, val=7)
    for task in read_recipe(tmp_path / "recipe.yaml").tasks.values():
        for source in (task.train, task.val):
            assert source is not None
            assert (tmp_path / source["path"]).exists()
    assert (tmp_path / "photo.png").is_file()
