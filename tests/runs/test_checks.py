"""What a recipe names is looked at before anything is trained."""

from pathlib import Path
from typing import Any

import pytest

from tests.small_run import merged, small_recipe, values_of
from uniperceiver.config import Recipe
from uniperceiver.data.tasks import open_tasks
from uniperceiver.errors import UserError
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.strict import parse


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "kind",
            "image_clasification",
            "kind: unknown kind 'image_clasification'; did you mean 'image_classification'",
        ),
        ("train.format", "scene", "train: unknown format 'scene'; did you mean 'scenes'"),
        (
            "train",
            {"format": "folder", "path": "absent"},
            r"train: \S+absent: no such file or folder; choose one of here",
        ),
        ("train", {"format": "folder", "path": "here"}, r"train: \S+here: no class folders; expected a sub-folder per"),
        ("train.label", "none", "train: these data have no classes"),
        ("val.label", "shape", "val: its classes .* are not those of train"),
        ("labels", {"redd": "x"}, "labels: no class 'redd' in the data; did you mean 'red'"),
        ("template", "{text}", "template: "),
        ("train.items", 0, "train: key 'items' has a wrong value 0"),
    ],
)
def test_what_a_task_names_is_checked_before_training(tmp_path: Path, key: str, value: Any, message: str) -> None:
    (tmp_path / "here").mkdir()
    recipe = parse(Recipe, merged(values_of(), {f"tasks.colours.{key}": value}), "r.yaml")
    with pytest.raises(UserError, match=rf"^tasks\.colours\.{message}"):
        open_tasks(recipe, tmp_path)


def test_a_task_without_data_or_training_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tasks.colours: has no data; give train"):
        open_tasks(small_recipe(tasks__colours__train=None, tasks__colours__val=None), tmp_path)
    with pytest.raises(UserError, match=r"tasks.colours: key 'train' is missing; training needs samples"):
        prepare_run(small_recipe(tasks__colours__train=None), tmp_path, tmp_path / "run")
    with pytest.raises(UserError, match=r"tasks.captions.labels: a task of kind 'image_captioning' has no labels"):
        open_tasks(small_recipe(tasks__captions__labels={"a": "b"}), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__size": "nanno"}, "model.size 'nanno' is unknown; did you mean 'nano'"),
        ({"tasks__colours__size": 36}, "tasks.colours.size: 36 is not a multiple of the patch side 8"),
        ({"tasks__colours__late": {"size": 36}}, "tasks.colours.late.size: 36 is not a multiple"),
        ({"tasks__captions__length": 200}, "tasks.captions.length: 200 is more than model.max_text 128"),
        ({"evaluation__max_words": 129}, "evaluation.max_words: 129 is more than model.max_text 128"),
        ({"model__heads": 3}, "model.width 16 must be a multiple of 4 and of model.heads 3"),
        ({"model__vocabulary": "absent.json"}, r"absent.json"),
        ({"model__vocabulary": 10}, "10"),
        ({"device": "cuda:99"}, "device 'cuda:99': .*; use device=cpu"),
        ({"device": "abacus"}, "device 'abacus': .*; use device=cpu"),
    ],
)
def test_sizes_are_checked_before_training(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        prepare_run(small_recipe(**changes), tmp_path, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "recipe.yaml").exists()
