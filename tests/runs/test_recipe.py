"""From a recipe to opened tasks and a text encoder, and when a run may go on."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.small_run import IMAGES, TEXTS, small_recipe
from uniperceiver.data.tasks import open_tasks, proposal, text_encoder
from uniperceiver.errors import UserError
from uniperceiver.runs.folder import check_same_run, save_recipe


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
    assert (first.view.size, first.view.frames) == (32, 2)


def test_a_template_is_the_tasks(tmp_path: Path) -> None:
    recipe = small_recipe(("relations",), tasks__relations__template="{answer}: {text}")
    assert open_tasks(recipe, tmp_path)[0].task.template == "{answer}: {text}"


def test_the_text_encoder_is_trained_on_the_recipes_own_texts(tmp_path: Path) -> None:
    recipe = small_recipe()
    codec = text_encoder(recipe, open_tasks(recipe, tmp_path), tmp_path)
    assert codec.size == 280
    assert codec.decode(codec.encode("A Red square")) == "a red square"
    codec.save(tmp_path / "tokenizer.json")
    again = small_recipe(model__vocabulary="tokenizer.json")
    assert text_encoder(again, open_tasks(again, tmp_path), tmp_path).fingerprint() == codec.fingerprint()


def test_frequent_words_are_proposed_more_often(tmp_path: Path) -> None:
    recipe = small_recipe(("words",))
    tasks = open_tasks(recipe, tmp_path)
    codec = text_encoder(recipe, tasks, tmp_path)
    weights = proposal(codec, tasks)
    assert weights.shape == (280,)
    assert bool((weights >= 1).all())
    counts = torch.ones(280, dtype=torch.float64)
    for text in tasks[0].sources["train"].texts():
        for token in codec.encode(text):
            counts[token] += 1
    torch.testing.assert_close(weights, counts**0.75)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", 9),
        ("device", "cuda"),
        ("threads", 3),
        ("data__workers", 4),
        ("data__max_broken", 0.5),
        ("evaluation__every", 7),
        ("checkpoint__keep", 7),
        ("log__tensorboard", True),
    ],
)
def test_what_may_change_when_a_run_goes_on(tmp_path: Path, key: str, value: Any) -> None:
    save_recipe(small_recipe(), tmp_path, tmp_path)
    check_same_run(small_recipe(**{key: value}), tmp_path)


def test_what_may_not_change(tmp_path: Path) -> None:
    check_same_run(small_recipe(), tmp_path)  # no run yet
    save_recipe(small_recipe(), tmp_path, tmp_path)
    check_same_run(small_recipe(), tmp_path)
    for changes in (
        {"tasks__captions__train": {**IMAGES, "items": 3}},
        {"tasks__captions__train": {**IMAGES, "seed": 3}},
    ):
        with pytest.raises(UserError, match=r"holds a run with tasks.captions.train\.(items|seed)="):
            check_same_run(small_recipe(**changes), tmp_path)
    with pytest.raises(UserError, match=r"holds a run with tasks\.words"):
        check_same_run(small_recipe(("colours", "captions", "words"), tasks__words__train=TEXTS), tmp_path)
