"""Which checkpoints stay, which are passed over, and which recipes and folders a run refuses to go on with."""

from pathlib import Path
from typing import Any

import pytest

from tests.small_run import IMAGES, assert_same, log_lines, small_recipe, train
from uniperceiver.errors import UserError
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.training import checkpoint


def checkpoints(folder: Path) -> list[str]:
    return [path.name for path in checkpoint.list_checkpoints(folder / "checkpoints")]


def test_the_newest_and_the_best_checkpoints_stay(tmp_path: Path) -> None:
    scores = iter([3.0, 1.0, float("nan"), 2.0, 5.0, 4.0])
    recipe = small_recipe(steps=6, checkpoint__every=1, checkpoint__keep=2, evaluation__every=1)
    run = prepare_run(recipe, tmp_path, tmp_path / "run", quiet=True)
    object.__setattr__(run.callbacks, "evaluate", lambda state, stop, log: (next(scores), {}))
    run.train()
    assert checkpoints(tmp_path / "run") == ["step-000002", "step-000005", "step-000006"]
    assert run.state.best == {"step": 2, "score": 1.0}


def test_a_first_score_that_is_not_a_number_is_not_the_best_for_ever(tmp_path: Path) -> None:
    scores = iter([float("nan"), 2.0])
    run = prepare_run(small_recipe(steps=2, evaluation__every=1), tmp_path, tmp_path / "run", quiet=True)
    object.__setattr__(run.callbacks, "evaluate", lambda state, stop, log: (next(scores), {}))
    run.train()
    assert run.state.best == {"step": 2, "score": 2.0}


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_checkpoint_is_passed_over_and_said(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = small_recipe(steps=6, checkpoint__every=2, checkpoint__keep=2)
    whole = train(tmp_path / "whole", recipe)
    folder = tmp_path / "parts"
    train(folder, recipe, stop_after=4)
    path = folder / "checkpoints" / "step-000004" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data if damage == "flipped" else data[:-9])
    # The next save, at a step before the damaged one, must not lose its place to it.
    train(folder, small_recipe(steps=6, checkpoint__every=100, checkpoint__keep=1), stop_after=3)
    assert "not used: " in " ".join(capsys.readouterr().err.split())
    assert checkpoints(folder) == ["step-000003"]
    assert_same(whole, train(folder, recipe))
    notes = [line["text"] for line in log_lines(folder, "note")]
    assert any("step-000004" in note and note.startswith("not used") for note in notes)


def test_when_every_checkpoint_is_damaged_nothing_starts_again(tmp_path: Path) -> None:
    recipe = small_recipe(steps=2)
    train(tmp_path / "run", recipe)
    state = tmp_path / "run" / "checkpoints" / "step-000002" / "state.json"
    state.write_text("{")
    with pytest.raises(UserError, match="none of its 1 checkpoints is whole; restore one"):
        train(tmp_path / "run", small_recipe(steps=3))
    assert state.read_text() == "{"


def test_a_checkpoint_of_another_size_is_refused_and_kept(tmp_path: Path) -> None:
    small = small_recipe(steps=2)
    train(tmp_path / "small", small)
    train(tmp_path / "wide", small_recipe(steps=2, model__width=32))
    (tmp_path / "small" / "checkpoints").rename(tmp_path / "others")
    (tmp_path / "wide" / "checkpoints").rename(tmp_path / "small" / "checkpoints")
    files = sorted((tmp_path / "small" / "checkpoints").rglob("*.safetensors"))
    before = [file.read_bytes() for file in files]
    with pytest.raises(
        UserError, match=r"step-000002: is of another size: '\S+' is \(32.* the recipe's model; use the"
    ):
        train(tmp_path / "small", small)
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 1),
        ("model__layers", 2),
        ("optimiser__lr", 0.5),
        ("sampling__mode", "unmixed"),
        ("candidates__sample", 3),
        ("tasks__colours__batch", 4),
        ("tasks__colours__train__items", 13),
        ("tasks__colours__augment__flip", 0.5),
    ],
)
def test_a_changed_recipe_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    train(tmp_path / "run", small_recipe(steps=1))
    before = (tmp_path / "run" / "recipe.yaml").read_bytes()
    dotted = key.replace("__", r"\.")
    with pytest.raises(
        UserError, match=f"run: holds a run with {dotted}=.* the recipe says {value!r}; use another --out"
    ):
        prepare_run(small_recipe(steps=1, **{key: value}), tmp_path, tmp_path / "run")
    assert (tmp_path / "run" / "recipe.yaml").read_bytes() == before


def test_another_order_of_the_tasks_is_refused(tmp_path: Path) -> None:
    train(tmp_path / "run", small_recipe(steps=1))
    with pytest.raises(UserError, match="the tasks in the order colours, captions; keep that order"):
        prepare_run(small_recipe(("captions", "colours"), steps=1), tmp_path, tmp_path / "run")


def test_what_does_not_change_the_result_may_change(tmp_path: Path) -> None:
    train(tmp_path / "run", small_recipe(steps=1))
    changes = {"data__max_broken": 0.5, "evaluation__batch": 3, "log__every": 2, "checkpoint__keep": 5, "threads": 1}
    run = train(tmp_path / "run", small_recipe(steps=2, **changes))
    assert run.state.step == 2


def test_a_run_killed_before_its_model_folder_was_written_gets_it(tmp_path: Path) -> None:
    train(tmp_path, small_recipe())
    (tmp_path / "model").rename(tmp_path / "lost")
    train(tmp_path, small_recipe())
    name = "model.safetensors"
    assert (tmp_path / "model" / name).read_bytes() == (tmp_path / "lost" / name).read_bytes()


def test_the_best_checkpoint_is_never_chosen_by_the_test_split(tmp_path: Path) -> None:
    source = {**IMAGES, "label": "colour"}
    tasks = {"tasks__colours__val": None, "tasks__colours__train": source, "tasks__colours__test": source}
    train(tmp_path, small_recipe(("colours",), evaluation__every=4, **tasks))
    (line,) = log_lines(tmp_path, "evaluate")
    assert "colours/train/loss" in line
    assert not any("test" in name for name in line)


def test_a_start_that_was_refused_leaves_no_vocabulary_behind(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a multiple of the patch side"):
        train(tmp_path, small_recipe(tasks__colours__size=33))
    run = train(tmp_path, small_recipe(model__vocabulary=300, steps=1))
    assert run.state.model.tokenizer.words.words.shape[0] == 300
