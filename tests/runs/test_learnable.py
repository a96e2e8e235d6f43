"""Settings under which nothing can be learnt are refused, or said before training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.small_run import IMAGES, log_lines, small_recipe, train, values_of, write_recipe
from tests.tuned import tuning
from uniperceiver.cli import main
from uniperceiver.config import Recipe
from uniperceiver.errors import UserError
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.strict import parse

Pictures = Callable[..., dict[str, Any]]


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    """A task of pictures in folders of these names."""

    def write(*names: str, **more: Any) -> dict[str, Any]:
        for name in names:
            (tmp_path / "pictures" / name).mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (32, 32)).save(tmp_path / "pictures" / name / f"{number}.png")
        train = {"format": "folder", "path": "pictures"}
        return {"kind": "image_classification", "train": train, "batch": 2, "size": 32, **more}

    return write


@pytest.mark.parametrize("task", ["retrieval", "clip_retrieval"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 1}, "batch: is 1, so every sample is compared with its own text alone, the loss is 0 and nothing"),
        ({"late": {"batch": 1}}, "late.batch: is 1, so every sample"),
        ({"train__items": 1}, "train: has one sample, so every sample"),
    ],
)
def test_a_text_that_is_compared_with_itself_alone(
    tmp_path: Path, task: str, changes: dict[str, Any], message: str
) -> None:
    recipe = small_recipe((task,), **{f"tasks__{task}__{key}": value for key, value in changes.items()})
    with pytest.raises(UserError, match=rf"^tasks\.{task}\.{message}"):
        prepare_run(recipe, tmp_path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_single_class(tmp_path: Path, pictures: Pictures) -> None:
    recipe = small_recipe((), tasks__things=pictures("ring"))
    with pytest.raises(UserError, match=r"^tasks.things: has one class, 'ring', so every answer is right and nothing"):
        prepare_run(recipe, tmp_path, tmp_path / "run")


SHAPES = {**IMAGES, "label": "shape"}
ROUND = {"circle": "round", "ring": "Round"}
SHARED = "2 classes share their text with another, so no answer tells them apart: 'circle', 'ring' as 'round'; give"


def test_classes_of_one_text_are_said_wherever_they_come_in(
    tmp_path: Path, pictures: Pictures, capsys: pytest.CaptureFixture[str]
) -> None:
    things = pictures("hot_dog", "hot dog", "Hot Dog", "ring")
    shapes = {"kind": "image_classification", "train": SHAPES, "batch": 2, "size": 32, "labels": ROUND}
    values = values_of((), steps=2, tasks__things=things, tasks__shapes=shapes)
    path = write_recipe(tmp_path / "r.yaml", values)
    train(tmp_path / "run", parse(Recipe, values, "r.yaml"), base=tmp_path)
    first, second = (line["text"] for line in log_lines(tmp_path / "run", "note"))
    assert first == (
        "tasks.things: 3 classes share their text with another, so no answer tells them apart: 'Hot Dog', 'hot dog', "
        "'hot_dog' as 'Hot Dog'; give them texts of their own (labels: {'Hot Dog': ...}), or join them"
    )
    assert second.startswith(f"tasks.shapes: {SHARED} them texts of their own (labels: {{'circle': ...}})")
    picture = str(tmp_path / "pictures" / "ring" / "0.png")
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "run"), "classify", "--task", "things", "--json", "--", picture]) == 0
    assert sum(json.loads(capsys.readouterr().out)[0]["scores"].values()) == pytest.approx(1.0, abs=1e-4)
    assert main(["evaluate", str(tmp_path / "run"), "--split", "train"]) == 0
    assert first in capsys.readouterr().err
    assert main(["data", "check", str(path), "--workers", "0"]) == 0
    said = capsys.readouterr().out
    assert first in said
    assert second in said


def test_classes_with_parameters_of_their_own_may_share_a_text(trained: Path, tmp_path: Path) -> None:
    task = {"kind": "image_classification", "train": SHAPES, "batch": 2, "size": 32, "labels": ROUND}
    for changes, notes in (({"tune__head": True}, 0), ({"tune__labels": True}, 0), ({"tune__vectors": 2}, 1)):
        run = prepare_run(tuning(trained, tasks={"shapes": task}, **changes), tmp_path, tmp_path / "run", quiet=True)
        assert len([note for note in run.notes if SHARED in note]) == notes


def test_a_warm_up_that_is_not_over_at_the_end_is_said(tmp_path: Path) -> None:
    for warmup, told in ((20, ["optimiser.warmup 20 is longer than training: after 4 steps"]), (4, [])):
        run = prepare_run(small_recipe(("colours",), optimiser__warmup=warmup), tmp_path, tmp_path / "run", quiet=True)
        assert [note.partition(" the learning rate")[0] for note in run.notes if "warmup" in note] == told
