"""From a recipe to opened tasks."""

from pathlib import Path

from tests.small_run import small_recipe, values_of
from uniperceiver.data.tasks import open_tasks, repeated_notes


def test_labels_of_a_recipe_replace_those_of_the_data(tmp_path: Path) -> None:
    labels = {"red": ["a red thing", "red"], "blue": "a blue thing"}
    (data,) = open_tasks(small_recipe(("colours",), tasks__colours__labels=labels), tmp_path)
    assert data.task.labels[0] == ("a red thing", "red")
    assert ("a blue thing",) in data.task.labels
    assert ("yellow",) in data.task.labels


def test_splits_and_indices(tmp_path: Path) -> None:
    first, second = open_tasks(small_recipe(), tmp_path)
    assert (first.index, second.index) == (0, 1)
    assert list(first.sources) == ["train", "val"]
    assert list(open_tasks(small_recipe(), tmp_path, ("val",))[0].sources) == ["val"]
    assert (first.preprocess.size, first.preprocess.frames) == (32, 2)


def test_a_template_is_the_tasks(tmp_path: Path) -> None:
    recipe = small_recipe(("relations",), tasks__relations__template="{answer}: {text}")
    assert open_tasks(recipe, tmp_path)[0].task.template == "{answer}: {text}"


def test_a_split_with_the_data_of_train_is_said(tmp_path: Path) -> None:
    (data,) = open_tasks(small_recipe(("colours",)), tmp_path)
    assert repeated_notes(data) == []
    same = values_of(("colours",))["tasks"]["colours"]["train"]
    (data,) = open_tasks(small_recipe(("colours",), tasks__colours__val=same), tmp_path)
    (note,) = repeated_notes(data)
    assert note.startswith("colours/val: the same data as train, so its figures do not tell")
