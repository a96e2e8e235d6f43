"""MODEL + DATA -> RECIPE: folders of every form, seen as the model sees, and recipes with a method."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.small_run import values_of, write_recipe
from tests.tuned import tuning_values, write_pictures
from uniperceiver.config import Recipe
from uniperceiver.data.scenes.scene import SHAPES
from uniperceiver.data.tasks import open_tasks
from uniperceiver.errors import UserError
from uniperceiver.runs.tuning import _modality_in, tune_recipe


def sizes(recipe: Recipe) -> dict[str, int]:
    """Samples of every split of the only task."""
    (data,) = open_tasks(recipe, Path("nowhere"))
    assert len(data.task.labels) == 3
    return {split: len(source) for split, source in data.sources.items()}


def test_a_folder_of_classes_is_parted(trained: Path, tmp_path: Path) -> None:
    recipe = tune_recipe(str(trained), write_pictures(tmp_path / "my things", each=5), None, {})
    assert list(recipe.tasks) == ["my things"]
    assert sizes(recipe) == {"train": 12, "val": 3}
    train, val = (source for _, source in sorted(open_tasks(recipe, tmp_path)[0].sources.items()))
    names = [{source.read(index).id for index in range(len(source))} for source in (train, val)]
    assert len(names[0] | names[1]) == 15
    task = recipe.tasks["my things"]
    assert (task.kind, task.size, task.frames, task.length) == ("image_classification", 32, 2, 64)
    assert (task.augment.crop, task.augment.flip, task.label_smoothing) == (0.5, 0.0, 0.1)
    assert recipe.model.start == str(trained)
    assert (recipe.tune.method, recipe.tune.head) == ("prompt", True)


def test_pictures_are_seen_as_the_model_saw_its_own(trained: Path, tmp_path: Path) -> None:
    """The whole picture, squashed, where that is how the model was trained; nothing is said where it was cropped."""
    folder = write_pictures(tmp_path / "things")
    assert tune_recipe(str(trained), folder, None, {}).tasks["things"].fit is None
    shutil.copytree(trained / "model", tmp_path / "squashed")
    file = tmp_path / "squashed" / "preprocess.json"
    views = json.loads(file.read_text())
    assert all("fit" not in view for view in views.values())
    file.write_text(json.dumps({name: {**view, "fit": "squash"} for name, view in views.items()}))
    recipe = tune_recipe(str(tmp_path / "squashed"), folder, None, {})
    assert recipe.tasks["things"].fit == "squash"
    assert open_tasks(recipe, tmp_path)[0].preprocess.fit == "squash"


def test_a_key_of_the_only_task_can_be_set(trained: Path, tmp_path: Path) -> None:
    keys = {"tasks.things.augment.crop": "1", "tasks.things.augment.flip": "0.5"}
    task = tune_recipe(str(trained), write_pictures(tmp_path / "things"), None, keys).tasks["things"]
    assert (task.augment.crop, task.augment.flip, task.label_smoothing) == (1.0, 0.5, 0.1)


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        (("train", "val"), {"train": 15, "val": 15}),
        (("train", "validation", "test"), {"train": 15, "val": 15, "test": 15}),
        (("train", "test"), {"train": 12, "val": 3, "test": 15}),
        (("train",), {"train": 12, "val": 3}),
    ],
)
def test_a_folder_of_splits(trained: Path, tmp_path: Path, splits: tuple[str, ...], expected: dict[str, int]) -> None:
    for split in splits:
        write_pictures(tmp_path / "data" / split)
    (tmp_path / "data/classes.txt").write_text("of no interest\n")
    (tmp_path / "data/.cache").mkdir()
    assert sizes(tune_recipe(str(trained), tmp_path / "data", None, {})) == expected


def test_train_may_be_the_name_of_a_class(trained: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "vehicles")
    (tmp_path / "vehicles" / SHAPES[0]).rename(tmp_path / "vehicles/train")
    recipe = tune_recipe(str(trained), tmp_path / "vehicles", None, {})
    (data,) = open_tasks(recipe, tmp_path)
    assert ("train",) in data.task.labels
    assert sizes(recipe) == {"train": 12, "val": 3}


def test_clips_make_another_kind_of_task(trained: Path, tmp_path: Path) -> None:
    for name in ("up", "down"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        (tmp_path / "clips" / name / "one.MP4").write_bytes(b"never decoded here")
    (tmp_path / "clips/a readme.txt").write_text("clips of mine")
    (task,) = tune_recipe(str(trained), tmp_path / "clips", None, {}).tasks.values()
    assert (task.kind, task.frames, task.size) == ("video_classification", 2, 32)


def test_a_saved_model_is_tuned_as_a_run_is(trained: Path, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "things")
    one, other = (tune_recipe(str(place), folder, None, {}) for place in (trained, trained / "model"))
    assert one.tasks == other.tasks
    assert other.model.start == str(trained / "model")


def test_the_method_is_the_commands_or_the_recipes_or_prompt(trained: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "r.yaml", tuning_values(Path("replaced"), method="full"))
    assert tune_recipe(str(trained), path, None, {}).tune.method == "full"
    assert tune_recipe(str(trained), path, "prompt", {}).tune.method == "prompt"
    assert tune_recipe(str(trained), path, None, {}).model.start == str(trained)
    plain = values_of()
    del plain["model"]
    assert tune_recipe(str(trained), write_recipe(tmp_path / "r.yaml", plain), None, {}).tune.method == "prompt"
    folder = write_pictures(tmp_path / "things")
    prompt, full = (tune_recipe(str(trained), folder, method, {}) for method in ("prompt", "full"))
    assert (full.tune.head, full.tune.method) == (False, "full")
    assert full.optimiser.lr < prompt.optimiser.lr
    assert tune_recipe(str(trained), folder, None, {"tune.method": "full"}) == full


def test_overrides_are_the_last_word(trained: Path, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "things")
    words = {"steps": "7", "tasks.things.batch": "4", "tune.vectors": "2", "tune.fraction": "0.5"}
    recipe = tune_recipe(str(trained), folder, None, words)
    assert (recipe.steps, recipe.tasks["things"].batch, recipe.tune.vectors, recipe.tune.fraction) == (7, 4, 2, 0.5)


@pytest.mark.parametrize(
    ("data", "overrides", "message"),
    [
        ("absent", {}, r"absent: no such file or folder; give a recipe \(YAML\), or a folder of pictures: CLASS/FILE"),
        ("empty", {}, r".*empty: holds no pictures or clips; expected CLASS/FILE, or train/CLASS/FILE and val/CLASS"),
        ("things", {"tune.method": "both"}, r".*things: key 'tune.method' has a wrong value 'both'"),
        ("things", {"tune.fraction": "some"}, r".*things: key 'tune.fraction' has a wrong value 'some'"),
        ("things", {"tune.vector": "3"}, r".*things: unknown key 'tune.vector'; did you mean 'vectors'"),
        ("odd.yaml", {}, r".*odd.yaml: tune must be a mapping of keys to values, found 'prompt'"),
        ("no.yaml", {}, r".*no.yaml: expected a mapping"),
    ],
)
def test_mistakes_are_one_line(
    trained: Path, tmp_path: Path, data: str, overrides: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "things")
    (tmp_path / "empty/class").mkdir(parents=True)
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump({**values_of(), "tune": "prompt"}))
    (tmp_path / "no.yaml").write_text("just words")
    with pytest.raises(UserError, match=f"^{message}") as caught:
        tune_recipe(str(trained), Path(data), None, overrides)
    assert "\n" not in str(caught.value)


def test_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent: neither a saved model"):
        tune_recipe(str(tmp_path / "absent"), write_pictures(tmp_path / "things"), None, {})


def test_files_beside_the_folders_of_classes_decide_nothing(tmp_path: Path) -> None:
    for name in ("beside.mp4", "cat/a.png", "cat/.hidden.mp4", ".cache/b.mp4", "dog/deep/c.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert _modality_in(tmp_path) == "image"
