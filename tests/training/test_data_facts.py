"""A run goes on with the data that it was trained on: other classes are refused, other samples are said."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.small_run import TASKS, log_lines, small_recipe, train
from uniperceiver.cli import main
from uniperceiver.config import Recipe
from uniperceiver.data.tasks import open_tasks
from uniperceiver.errors import UserError
from uniperceiver.records import Sample
from uniperceiver.training import checkpoint
from uniperceiver.training.data_facts import _of_split, changes_of_data, data_facts

RECIPE = {
    "tasks__colours__train": {"format": "folder", "path": "pictures"},
    "tasks__colours__val": None,
    "checkpoint__keep": 9,
}


def recipe(steps: int) -> Recipe:
    return small_recipe(("colours",), steps=steps, **RECIPE)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two steps beside its pictures of three classes."""
    for number, name in enumerate(("hot_dog", "ring", "wheel")):
        for picture in range(2):
            path = tmp_path / "pictures" / name / f"{picture}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((32, 32, 3), 40 * number + picture, np.uint8)).save(path)
    train(tmp_path / "run", recipe(2), base=tmp_path)
    return tmp_path / "run"


def goes_on(run: Path, steps: int = 3) -> list[str]:
    """What is said when the run goes on."""
    train(run, recipe(steps), base=run.parent)
    return [line["text"] for line in log_lines(run, "note")]


def test_the_same_data_are_nothing_to_talk_about(run: Path) -> None:
    shutil.copytree(run.parent / "pictures", run.parent / "copy")
    assert goes_on(run) == ["going on after step 2"]


def test_a_recipe_with_fewer_steps_than_are_done_is_said(run: Path) -> None:
    assert goes_on(run, 2) == ["going on after step 2"]
    less = "going on after step 2, more than the recipe's 1: nothing is trained, and figures are of that step"
    assert goes_on(run, 1)[-1] == less


def test_a_learning_rate_that_jumps_where_steps_are_raised_is_said(tmp_path: Path) -> None:
    """It had come down to its least at the last step; half a cosine of ten steps is higher there."""
    rates = {"optimiser__lr": 0.01, "optimiser__warmup": 0, "optimiser__min_lr": 0.0}

    def goes_on(steps: int) -> str:
        train(tmp_path / "run", small_recipe(("colours",), steps=steps, **rates))
        return [line["text"] for line in log_lines(tmp_path / "run", "note")][-1]

    train(tmp_path / "run", small_recipe(("colours",), steps=2, **rates))
    jump = "steps was 2 and is 4, so the learning rate jumps from 0 to 0.005, and the run is not one that had so many"
    assert goes_on(4).startswith(f"going on after step 2; {jump} steps from the start")
    assert goes_on(4) == "going on after step 4"


def test_a_renamed_class_is_refused_by_its_name(run: Path) -> None:
    (run.parent / "pictures" / "ring").rename(run.parent / "pictures" / "zebra")
    before = sorted(path.stat().st_mtime_ns for path in run.rglob("*"))
    with pytest.raises(
        UserError,
        match=r"step-000002: was trained with other classes of task 'colours' \(gone: ring; new: zebra\); give the",
    ):
        goes_on(run)
    assert sorted(path.stat().st_mtime_ns for path in run.rglob("*")) == before


def test_other_classes_are_said_when_they_are_measured(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--split", "train"]) == 0
    assert "classes" not in capsys.readouterr().err
    (run.parent / "pictures" / "ring").rename(run.parent / "pictures" / "zebra")
    assert main(["evaluate", str(run), "--split", "train"]) == 0
    said = capsys.readouterr().err
    assert "tasks.colours: has other classes than the model was trained on (gone: ring; new: zebra)" in said


def test_another_spelling_of_the_same_text_is_the_same_class(run: Path) -> None:
    (run.parent / "pictures" / "hot_dog").rename(run.parent / "pictures" / "hot dog")
    assert goes_on(run) == ["going on after step 2"]


def test_more_samples_are_noted(run: Path) -> None:
    shutil.copy(run.parent / "pictures" / "ring" / "0.png", run.parent / "pictures" / "ring" / "9.png")
    changed = "the data have changed: colours/train has 7 samples, 6 when the run was saved"
    assert goes_on(run) == [changed, "going on after step 2"]
    *before, last = goes_on(run, 4)
    assert before == [changed, "going on after step 2"]  # it is saved with them now
    assert last.startswith("going on after step 3; steps was 3")


def test_other_samples_are_noted(run: Path) -> None:
    Image.new("RGB", (32, 32), (9, 9, 9)).save(run.parent / "pictures" / "ring" / "0.png")
    assert goes_on(run)[0] == (
        "the data have changed: colours/train has other samples than when the run was saved, though as many"
    )


def test_the_order_of_classes_and_their_texts_matter() -> None:
    before = {"a": {"classes": ["x", "y"], "texts": "1", "splits": {}}}
    for classes, change in ((["y", "x"], "another order"), (["x", "y"], "other texts for them")):
        now = {"a": {"classes": classes, "texts": "2", "splits": {}}}
        with pytest.raises(UserError, match=rf"R: was trained with other classes of task 'a' \({change}\)"):
            changes_of_data(before, now, "R")
    many = {"a": {"classes": list("abcdefgh"), "texts": "2", "splits": {}}}
    with pytest.raises(UserError, match=r"\(gone: x, y; new: a, b, c, d, e and 3 more\)"):
        changes_of_data(before, many, "R")


def test_a_checkpoint_of_before_goes_on(run: Path) -> None:
    folder = run / "checkpoints" / "step-000002"
    tensors, state = checkpoint.read(folder)
    del state["data"]
    checkpoint.write(folder, tensors, state)
    (run.parent / "pictures" / "ring").rename(run.parent / "pictures" / "zebra")
    assert goes_on(run) == ["going on after step 2"]


def test_a_task_without_classes_has_facts_too(tmp_path: Path) -> None:
    made = train(tmp_path / "run", small_recipe(("captions",), steps=1))
    facts = checkpoint.read(tmp_path / "run" / "checkpoints" / "step-000001")[1]["data"]["captions"]
    assert facts["classes"] is facts["texts"] is None
    assert facts["splits"].keys() == {"train", "val"}
    assert facts["splits"]["train"]["samples"] == TASKS["captions"]["train"]["items"]
    fewer = replace(made.tasks[0], sources={"train": made.tasks[0].sources["val"]})
    assert replace(made, tasks=(fewer,))._data["captions"]["splits"]["train"] != facts["splits"]["train"]


@pytest.mark.parametrize("row", [0, 11, 20])
def test_samples_all_over_a_split_are_looked_at(tmp_path: Path, row: int) -> None:
    rows = [f"text {number},yes" for number in range(20)] + ["text 20,no"]
    source = {"format": "csv", "path": "t.csv", "text": "text", "label": "label"}
    one_set = small_recipe(("relations",), tasks__relations__train=source, tasks__relations__val=None)

    def facts() -> dict[str, Any]:
        (tmp_path / "t.csv").write_text("\n".join(["text,label", *rows]) + "\n")
        return data_facts(open_tasks(one_set, tmp_path))

    before = facts()
    assert changes_of_data(before, facts(), "R") == []
    rows[row] = f"other {row},{rows[row].split(',')[1]}"
    (line,) = changes_of_data(before, facts(), "R")
    assert line == "relations/train has other samples than when the run was saved, though as many"


class Few:
    """Samples in memory."""

    def __init__(self, *samples: Sample) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, index: int) -> Sample:
        return self._samples[index]


@pytest.mark.parametrize(
    ("change", "is_other"),
    [
        ({"label": 2}, True),
        ({"label": None, "labels": (1, 2)}, True),
        ({"text": "a red dot"}, True),
        ({"captions": ("a dot", "red")}, True),
        ({"captions": ("red", "a dot")}, True),
        ({"image": b"other"}, True),
        ({"clip": b"moving"}, True),
        ({"id": "moved/b.png"}, False),
    ],
)
def test_samples_are_others_by_what_they_hold(change: dict[str, Any], is_other: bool) -> None:
    """Of the second of two samples; a file that has moved is the same."""
    first, second = Sample(id="a", text="b"), Sample(id="b.png", image=b"picture", label=1, captions=("a dot",))
    assert bool(changed(Few(first, second), Few(first, replace(second, **change)))) == is_other
    assert bool(changed(Few(second, first), Few(replace(second, **change), first))) == is_other


def test_other_sets_of_classes_are_other_samples() -> None:
    def tagged(*labels: int) -> Few:
        return Few(Sample(id="a.png", image=b"picture", labels=labels))

    other = ["a/train has other samples than when the run was saved, though as many"]
    assert changed(tagged(0, 1), tagged(0, 2)) == changed(tagged(0, 1), tagged()) == other
    assert changed(tagged(0, 1), tagged(1, 0)) == []
    assert changed(tagged(0, 1), tagged(0, 2), without="sets") == []  # a run of before does not know them


def changed(before: Few, now: Few, without: str = "") -> list[str]:
    """What is said where a split has become another one."""
    former, present = (
        {"a": {"classes": None, "texts": None, "splits": {"train": _of_split(source)}}} for source in (before, now)
    )
    former["a"]["splits"]["train"].pop(without, None)
    return changes_of_data(former, present, "R")
