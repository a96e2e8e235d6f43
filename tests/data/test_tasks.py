"""From a recipe to opened tasks."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.made_data import items, write_files
from tests.small_run import small_recipe, values_of
from uniperceiver.config import parse_recipe
from uniperceiver.data.formats import open_source
from uniperceiver.data.tasks import open_tasks, repeated_notes
from uniperceiver.errors import UserError


def test_labels_of_a_recipe_replace_those_of_the_data(tmp_path: Path) -> None:
    labels = {"red": ["a red thing", "red"], "blue": "a blue thing"}
    (data,) = open_tasks(small_recipe(("colours",), tasks__colours__labels=labels), tmp_path)
    assert data.task.labels[0] == ("a red thing", "red")
    assert ("a blue thing",) in data.task.labels
    assert ("yellow",) in data.task.labels


def test_names_of_classes_match_in_either_form_of_unicode(tmp_path: Path) -> None:
    apart, joined = "cafe\N{COMBINING ACUTE ACCENT}", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    for folder in (f"train/{apart}", "train/cat", f"val/{joined}", "val/cat"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.jpg").touch()
    train, val = ({"format": "folder", "path": split} for split in ("train", "val"))
    recipe = small_recipe(("colours",), tasks__colours__train=train, tasks__colours__val=val)
    for form in (apart, joined):
        recipe = replace(recipe, tasks={"colours": replace(recipe.tasks["colours"], labels={form: "a coffee house"})})
        (data,) = open_tasks(recipe, tmp_path)
        assert data.task.labels == (("a coffee house",), ("cat",))
    listed = open_source({**train, "classes": ["cat", joined]}, "w", tmp_path)
    assert [listed.read(index).label for index in range(2)] == [0, 1]
    (tmp_path / "train" / joined).mkdir()
    (tmp_path / "train" / joined / "a.jpg").touch()
    with pytest.raises(
        UserError, match=r"colours.train: two classes are called .*, in two forms of Unicode; rename one"
    ):
        open_tasks(replace(recipe, tasks={"colours": replace(recipe.tasks["colours"], val=None)}), tmp_path)


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


@pytest.mark.parametrize(
    ("kind", "augment", "sound", "message"),
    [
        ("audio_classification", {"flip": 0.5}, {}, "augment.flip: not for this task: sounds take gain, noise, "),
        ("audio_classification", {"cutmix": 1.0}, {}, "augment.cutmix: not for this task: sounds take"),
        ("image_classification", {"gain": 6.0}, {}, "augment.gain: not for this task: the task does not hear; remove"),
        ("audio_text_retrieval", {"mixup": 0.2}, {}, "augment: mixup and cutmix need pictures .* and labels as cand"),
        ("audiovisual_classification", {"mixup": 0.2}, {}, "augment: mixup and cutmix need"),
        (
            "audio_classification",
            {"mask_mels": 0.2},
            {"kind": "waveform"},
            "augment.mask_mels: a waveform has no bands",
        ),
        (
            "audio_classification",
            {"mixup": 0.2, "gain": 6.0, "noise": 0.5, "mask_time": 0.2, "mask_mels": 0.1},
            {},
            None,
        ),
        ("audiovisual_classification", {"flip": 0.5, "gain": 6.0}, {}, None),
    ],
)
def test_augmentation_that_has_no_meaning_is_refused(
    tmp_path: Path, kind: str, augment: dict[str, float], sound: dict[str, str], message: str | None
) -> None:
    write_files(tmp_path, items())
    task = {"kind": kind, "train": {"format": "folder", "path": "."}, "augment": augment}
    recipe = parse_recipe({"seed": 0, "steps": 1, "model": {"sound": sound}, "tasks": {"t": task}}, {}, "r")
    if message is None:
        assert open_tasks(recipe, tmp_path)
        return
    with pytest.raises(UserError, match=rf"^tasks\.t\.{message}"):
        open_tasks(recipe, tmp_path)
