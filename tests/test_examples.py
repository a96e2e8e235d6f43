"""The examples run, and do what they say."""

import json
import runpy
from functools import partial
from pathlib import Path

import pytest

from examples import interference, lifted_experts, new_task, own_data
from tests.markdown import ROOT
from uniperceiver import load
from uniperceiver.config import read_recipe
from uniperceiver.errors import UserError
from uniperceiver.moe.conditions import CONDITIONS
from uniperceiver.training.log import read_log


def test_a_new_task_is_trained_and_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new_task.main(tmp_path / "questions", steps=2)
    lines = capsys.readouterr().out.splitlines()
    assert sum("is it large ?" in line for line in lines) == 2
    assert sum("what colour is it ?" in line for line in lines) == 2


@pytest.mark.slow
def test_a_new_task_is_learnt(tmp_path: Path) -> None:
    new_task.main(tmp_path, steps=80)
    events = read_log(tmp_path)
    losses = [line["questions/loss"] for line in events if line["event"] == "train"]
    (*_, last) = [line for line in events if line["event"] == "evaluate"]
    assert losses[-1] < 0.6 * losses[0]
    assert last["questions/val/accuracy@1"] > last["questions/val/chance"] + 0.2


def test_a_task_is_declared_in_one_line_that_needs_no_parameter() -> None:
    text = (ROOT / "examples/new_task.py").read_text(encoding="utf-8")
    assert sum(line.startswith("TASK = Task(") and ")" in line for line in text.splitlines()) == 1
    assert "Parameter" not in text


def test_a_new_condition_is_trained_merged_and_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONDITIONS, "side", CONDITIONS["task"])  # the table is as before after the test
    example = runpy.run_path(str(ROOT / "examples/new_condition.py"))
    example["main"](tmp_path / "sides", steps=2)
    assert sum(", merged " in line for line in capsys.readouterr().out.splitlines()) == 4
    assert load(tmp_path / "sides").saved.arch.moe.condition == "side"  # type: ignore[union-attr]
    monkeypatch.delitem(CONDITIONS, "side")
    with pytest.raises(UserError, match=r"moe\.condition 'side' is unknown"):
        load(tmp_path / "sides")


def test_a_condition_is_one_function_and_one_line_of_the_table() -> None:
    text = (ROOT / "examples/new_condition.py").read_text(encoding="utf-8")
    assert text.count("CONDITIONS[") == 1
    assert text.count("def ") == 3  # the condition, a task's data, and what is done with it


def test_the_small_data_set_is_what_the_recipe_names(tmp_path: Path) -> None:
    own_data.main(tmp_path, train=14, val=7)
    for task in read_recipe(tmp_path / "recipe.yaml").tasks.values():
        for source in (task.train, task.val):
            assert source is not None
            assert (tmp_path / source["path"]).exists()
    assert (tmp_path / "photo.png").is_file()
    (tmp_path / "recipe.yaml").write_text("steps: 3\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"recipe.yaml: is another recipe; name a folder of its own"):
        own_data.main(tmp_path, train=14, val=7)
    assert (tmp_path / "recipe.yaml").read_text(encoding="utf-8") == "steps: 3\n"


def test_interference_of_a_run_and_of_any_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_data, "main", partial(own_data.main, train=70, val=42))
    interference.main(tmp_path, steps=2, batches=2)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("encoder.blocks.") and "('things', 'captions')" in line for line in lines) > 1
    (second,) = [line for line in lines if line.startswith("2.weight")]
    matrix = json.loads(second.removeprefix("2.weight "))
    assert matrix[0][0] == matrix[1][1] == 1.0
    assert matrix[0][1] < 0.9


def test_experts_are_lifted_into_a_model_of_plain_torch(capsys: pytest.CaptureFixture[str]) -> None:
    lifted_experts.main(steps=60)
    *steps, right = capsys.readouterr().out.splitlines()
    assert float(steps[-1].split()[-1]) < 0.1 * float(steps[0].split()[-1])
    assert int(right.removeprefix("right: ").removesuffix("%")) >= 95


def test_the_model_with_lifted_experts_knows_nothing_else_of_the_library() -> None:
    text = (ROOT / "examples/lifted_experts.py").read_text(encoding="utf-8")
    imports = [line for line in text.splitlines() if "uniperceiver" in line]
    assert imports == ["from uniperceiver.moe import MixtureFeedForward, MixtureLinear"]
