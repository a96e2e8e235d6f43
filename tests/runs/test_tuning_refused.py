"""A tuning that cannot be is refused in one line, before anything is written."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.small_run import IMAGES, TASKS, small_recipe, train, write_recipe
from tests.tuned import SHAPES_TASK, pictures, state_of, tuning, tuning_values
from uniperceiver import load
from uniperceiver.cli import main
from uniperceiver.config import read_recipe
from uniperceiver.errors import UserError
from uniperceiver.runs.prepare import prepare_run

SEVERAL = {"shapes": SHAPES_TASK, "colours": TASKS["colours"]}
EXPERTS: dict[str, Any] = {"condition": "token", "experts": 3}


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with experts chosen by tokens; nobody may change it."""
    folder = tmp_path_factory.mktemp("runs") / "routed"
    train(folder, small_recipe(("colours",), steps=1, moe=EXPERTS))
    return folder


@pytest.fixture(scope="module")
def by_class(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tuned a head for shapes; nobody may change it."""
    folder = tmp_path_factory.mktemp("runs") / "by_class"
    train(folder, tuning(trained, tune__head=True, tune__labels=True))
    return folder


def said(start: Path, folder: Path, **changes: Any) -> str:
    """The line about a recipe that is refused; nothing may be left behind but a vocabulary."""
    path = write_recipe(folder / "recipe.yaml", tuning_values(start, **changes))
    with pytest.raises(UserError) as caught:
        prepare_run(read_recipe(path), folder, folder / "run", quiet=True)
    assert "\n" not in str(caught.value)
    assert not (folder / "run/recipe.yaml").exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__start": None}, "tune.method=prompt: needs model.start, the model to tune"),
        ({"tune__method": None}, "tune: has no effect without tune.method; add full or prompt"),
        ({"method": "full", "tune__vectors": 4}, "tune.vectors: only with tune.method=prompt; remove the key"),
        ({"method": "full", "tune__head": True}, "tune.head: only with tune.method=prompt"),
        ({"model__width": 32}, "model.width: a model that is tuned keeps its own; remove the key, or tune.method"),
        ({"model__vocabulary": 300}, "model.vocabulary: a model that is tuned keeps its own"),
        ({"model__size": "small"}, "model.size: a model that is tuned keeps its own"),
        ({"moe__experts": 4}, "moe: a model that is tuned keeps its experts; remove the section"),
        ({"moe": EXPERTS}, "moe: a model that is tuned keeps its experts; remove the section"),
        ({"moe__balance__switch": 0.1}, "moe.balance: tuning prompts leaves the gates as they are, .*; remove the key"),
        ({"method": "full", "moe__balance__switch": 0.1}, "moe.balance: model.start .* routes nothing token by token"),
        ({"tasks": SEVERAL, "tune__head": True},
         r"tune.head: is for one task with classes; .* shapes \(image_classification\), colours \(image_cl"),
        ({"tasks": {"captions": TASKS["captions"]}, "tune__labels": True}, "tune.labels: is for one task with classes"),
        ({"tune__fraction": 0.001}, "tasks.shapes.train: tune.fraction: from 0 to 0.001 of 12 samples there is none"),
        ({"model__start": "absent"}, "model.start: absent: neither a saved model"),
        ({"tasks__shapes__size": 36}, "tasks.shapes.size: 36 is not a multiple of the patch side 8"),
    ],
)  # fmt: skip
def test_what_makes_no_sense(trained: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert re.match(message, said(trained, tmp_path, **changes))


def test_biases_that_are_not_there_are_not_moved(routed: Path, tmp_path: Path) -> None:
    line = said(routed, tmp_path, method="full", moe__balance__bias_rate=0.1)
    assert "moe.balance.bias_rate: model.start" in line
    assert "has no biases for selection; use moe.balance.switch" in line
    recipe = read_recipe(tmp_path / "recipe.yaml", {"moe.balance.bias_rate": "0", "moe.balance.switch": "0.5"})
    assert prepare_run(recipe, tmp_path, tmp_path / "run").objective.balance["switch"] == 0.5


def test_a_merged_model_is_refused(tmp_path: Path) -> None:
    train(tmp_path / "base", small_recipe(("colours",), steps=1, moe={"condition": "attribute", "experts": 3}))
    load(tmp_path / "base").merge().save_pretrained(tmp_path / "merged")
    for method in ("prompt", "full"):
        line = said(tmp_path / "merged", tmp_path, method=method)
        assert "is merged, its experts are gone; tune the model that it was merged from" in line


def test_experts_chosen_by_task_are_tuned_for_the_same_tasks_only(tmp_path: Path) -> None:
    train(tmp_path / "base", small_recipe(("colours", "relations"), steps=1, moe={"condition": "task"}))
    line = said(tmp_path / "base", tmp_path)
    assert "its experts were chosen by task, for colours, relations, and a new task has none; tune just these" in line
    prepare_run(tuning(tmp_path / "base", "colours", "relations"), tmp_path, tmp_path / "run")


def test_experts_that_take_their_tokens_write_no_captions(tmp_path: Path) -> None:
    moe = {"condition": "expert_choice", "experts": 3}
    train(tmp_path / "base", small_recipe(("colours",), steps=1, moe=moe))
    with pytest.raises(UserError, match=r"^moe.condition=expert_choice: cannot be used with task 'captions'"):
        prepare_run(tuning(tmp_path / "base", "captions"), tmp_path, tmp_path / "run")


def test_other_prompts_than_its_own_are_refused(by_class: Path, tmp_path: Path) -> None:
    line = said(by_class, tmp_path, tune__vectors=7, tune__head=True, tune__labels=True)
    assert (
        "has prompts of its own, other than those asked for; tune the model that it was made from, or all its" in line
    )


@pytest.mark.parametrize("method", ["prompt", "full"])
def test_parameters_of_classes_are_not_tuned_for_other_classes(by_class: Path, tmp_path: Path, method: str) -> None:
    changes = {"tune__head": True, "tune__labels": True} if method == "prompt" else {}
    line = said(by_class, tmp_path, method=method, tasks={"colours": TASKS["colours"]}, **changes)
    assert line.startswith("task 'colours': this model was tuned with parameters for each class of shapes, so other")


def test_other_labels_are_refused_where_there_are_parameters_for_each_class(
    by_class: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load(by_class)
    own = list(model.saved.tasks["shapes"].task.labels)
    assert np.allclose(model.classify(pictures(), own, task="shapes"), model.classify(pictures(), task="shapes"))
    for labels in (["a", "b"], [*own[1:], own[0]]):
        with pytest.raises(
            UserError, match=r"parameters for each class of shapes, .*; use its own labels, or the model"
        ):
            model.classify(pictures(), labels)
    assert model.rank(pictures(), ["a", "b"]).shape == (3, 2)
    other = {**SHAPES_TASK, "val": {**IMAGES, "label": "colour"}, "train": None}
    for name, task, code in (("shapes", SHAPES_TASK, 0), ("shapes", other, 2), ("mine", SHAPES_TASK, 0)):
        recipe = write_recipe(tmp_path / "r.yaml", {"tasks": {name: task}})
        assert main(["evaluate", str(by_class), "--data", str(recipe), "--split", "val"]) == code
    assert "parameters for each class of shapes" in capsys.readouterr().err


def test_a_run_does_not_replace_the_model_that_it_tunes(trained: Path, tmp_path: Path) -> None:
    load(trained).save_pretrained(tmp_path / "mine")
    before = state_of(load(tmp_path / "mine"))
    for place in (tmp_path / "mine", tmp_path / "mine" / ".." / "mine"):
        with pytest.raises(UserError, match=r"mine: holds other files, such as README.md, and is no run; use another"):
            prepare_run(tuning(tmp_path / "mine"), tmp_path, place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]
    assert not list((tmp_path / "mine").glob(".uniperceiver-tmp-*"))
    assert all(np.array_equal(before[name], value) for name, value in state_of(load(tmp_path / "mine")).items())
