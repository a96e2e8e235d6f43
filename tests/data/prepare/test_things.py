"""Boxes and masks in `data check` and `data prepare`: counted, written smaller, and read back."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.small_run import BASE, write_recipe
from uniperceiver.cli import main
from uniperceiver.cli.data_lines import check_lines
from uniperceiver.config import parse_recipe, read_recipe
from uniperceiver.data.formats.tables.box_columns import with_objects
from uniperceiver.data.media.decode import decode_image
from uniperceiver.data.prepare.check import DataReport, check_data
from uniperceiver.data.prepare.prepare import prepare_data
from uniperceiver.data.tasks import crowded_notes, lacking_notes, open_tasks
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.records import Sample
from uniperceiver.serving.locate import model_folder

SOURCE = {"format": "coco_instances", "path": "instances.json", "images": "images"}
REGIONS = {**BASE["model"], "image": "regions", "regions": {"queries": 4}}
RING = [30, 20, 130, 20, 130, 100, 30, 100]


def blot(x: int, y: int, side: int, number: int, **changes: Any) -> dict[str, Any]:
    """A square thing."""
    return {"id": number, "image_id": 0, "category_id": 2, "bbox": [x, y, side, side], "iscrowd": 0, **changes}


def write(folder: Path, annotations: list[dict[str, Any]]) -> None:
    """Three pictures of 240 x 160, and a file of things in them."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number in range(3):
        rng = np.random.default_rng(number)
        small = Image.fromarray(rng.integers(0, 256, (10, 15, 3), dtype=np.uint8))
        file = io.BytesIO()
        small.resize((240, 160)).save(file, "JPEG")
        (folder / "images" / f"{number}.jpg").write_bytes(file.getvalue())
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 240, "height": 160} for n in range(3)]
    categories = [{"id": 2, "name": "red_blot"}, {"id": 5, "name": "spot"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(document))


THINGS = [
    blot(10, 10, 20, 1),
    blot(50, 20, 60, 2, segmentation=[RING], area=8000.0, bbox=[30, 20, 100, 80]),
    blot(100, 10, 140, 3, category_id=5),
    blot(200, 100, 90, 4),
    blot(0, 0, 100, 5, iscrowd=1),
    blot(7, 7, 3, 6, category_id=5),
    blot(20, 30, 40, 7, image_id=2),
]


def checked(folder: Path, kind: str, **more: Any) -> DataReport:
    tasks = {"blots": {"kind": kind, "train": SOURCE, "size": 64}}
    recipe = parse_recipe({"tasks": tasks, "model": REGIONS, **more}, {}, "recipe")
    return check_data(recipe, folder, 0, find_model=model_folder, quiet=True)


def test_what_is_counted(tmp_path: Path) -> None:
    write(tmp_path, THINGS)
    (report,) = checked(tmp_path, "instance_segmentation").sets
    things = report.things
    assert things is not None
    assert (things.things, things.without, things.crowds, things.outlines) == (7, 1, 1, 1)
    assert (things.per_picture.least, things.per_picture.median, things.per_picture.most) == (0, 1, 6)
    assert things.sizes == {"small": 2, "medium": 3, "large": 1}
    assert things.classes == {"red_blot": 5, "spot": 2}
    assert (things.queries, things.more_than_queries) == (4, 1)
    # Of 240 x 160, the root of 3 x 3 is 2 per cent, that of 140 x 140 is 71.
    assert (things.sides.least, things.sides.most) == (2, 71)
    assert report.broken == 0
    lines = "\n".join(check_lines(checked(tmp_path, "object_detection")))
    assert "  things: 7; in a picture 0 to 6, median 1; 1 pictures of nothing; 1 crowds\n" in lines
    assert "  things of each class: 5 red_blot, 2 spot\n" in lines
    assert "more things than model.regions.queries 4: in 1 pictures, up to 6; the surplus is not learnt there" in lines
    assert "1 boxes reach out of their picture and are clipped (annotation 4)" in lines


def test_faults_have_the_id_of_their_annotation(tmp_path: Path) -> None:
    write(tmp_path, [*THINGS, blot(0, 0, 1, 812, image_id=1, bbox=[1, 2, None, 3])])
    (report,) = checked(tmp_path, "object_detection").sets
    (fault,) = report.faults
    assert (fault.sample, fault.reason) == ("1.jpg", "annotation 812: its bbox is [1, 2, null, 3], not four numbers")


def test_the_command_says_it_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, THINGS)
    tasks = {"blots": {"kind": "object_detection", "train": SOURCE, "size": 64}}
    path = write_recipe(tmp_path / "recipe.yaml", {**BASE, "tasks": tasks, "model": REGIONS})
    assert main(["data", "check", str(path), "--workers", "0", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["sets"][0]["things"]["classes"] == {"red_blot": 5, "spot": 2}


@pytest.mark.parametrize("kind", ["object_detection", "instance_segmentation"])
def test_prepared_things_are_the_same_but_smaller(tmp_path: Path, kind: str) -> None:
    write(tmp_path, THINGS)
    tasks = {"blots": {"kind": kind, "train": SOURCE, "size": 64, "labels": {"spot": "a small spot"}}}
    path = write_recipe(tmp_path / "recipe.yaml", {**BASE, "tasks": tasks, "model": REGIONS})
    prepare_data(path, [], tmp_path / "out", 0, quiet=True)
    before, after = (
        [data.sources["train"].read(index) for index in range(3)]
        for folder in (tmp_path, tmp_path / "out")
        for data in open_tasks(read_recipe(folder / "recipe.yaml"), folder)
    )
    for old, new in zip(before, after, strict=True):
        assert isinstance(new.image, bytes)
        assert decode_image(new.image, "a").shape == (64, 96, 3)
        _same(old, new, 64 / 160, masks=kind == "instance_segmentation")
    (data,) = open_tasks(read_recipe(tmp_path / "out" / "recipe.yaml"), tmp_path / "out")
    assert data.task.labels == (("red blot",), ("a small spot",))
    assert data.preprocess.fit == "squash"


def _same(old: Sample, new: Sample, factor: float, *, masks: bool) -> None:
    assert old.boxes is not None
    assert new.boxes is not None
    np.testing.assert_allclose(new.boxes, old.boxes * factor, atol=1e-9)
    if not len(old.boxes):
        return
    assert old.areas is not None
    assert new.areas is not None
    np.testing.assert_allclose(new.areas, old.areas * factor**2, atol=1e-9)
    assert old.classes is not None
    assert new.classes is not None
    assert new.classes.tolist() == old.classes.tolist()
    assert old.crowd is not None
    assert new.crowd is not None
    assert new.crowd.tolist() == old.crowd.tolist()
    if not masks:
        assert new.masks is None
        return
    assert old.masks is not None
    assert new.masks is not None
    for number in range(len(old.boxes)):
        mask_HW, small_HW = old.masks[number], new.masks[number]
        assert (mask_HW is None) == (small_HW is None)
        if mask_HW is not None and small_HW is not None:
            assert small_HW.shape == (64, 96)
            assert abs(small_HW.sum() - mask_HW.sum() * factor**2) <= 0.05 * small_HW.sum()


def test_pictures_that_stay_as_they_are_keep_their_boxes(tmp_path: Path) -> None:
    write(tmp_path, THINGS)
    tasks = {"blots": {"kind": "object_detection", "train": SOURCE, "size": 192}}
    path = write_recipe(tmp_path / "recipe.yaml", {**BASE, "tasks": tasks, "model": REGIONS})
    prepare_data(path, [], tmp_path / "out", 0, quiet=True)
    (data,) = open_tasks(read_recipe(tmp_path / "out" / "recipe.yaml"), tmp_path / "out")
    sample = data.sources["train"].read(0)
    assert sample.image == (tmp_path / "images" / "0.jpg").read_bytes()
    assert sample.boxes is not None
    assert sample.boxes.tolist()[0] == [10, 10, 30, 30]


def test_things_of_scenes_are_prepared_beside_their_labels(tmp_path: Path) -> None:
    scenes = {"format": "scenes", "items": 6, "pixels": 64, "objects": 3, "label": "shape"}
    tasks = {
        "shapes": {"kind": "instance_segmentation", "train": scenes, "size": 64},
        "foreground": {"kind": "image_classification", "train": scenes, "size": 64},
    }
    path = write_recipe(tmp_path / "recipe.yaml", {**BASE, "tasks": tasks, "model": REGIONS})
    prepare_data(path, [], tmp_path / "out", 0, quiet=True)
    old, new = (
        open_tasks(read_recipe(folder / "recipe.yaml"), folder)[0].sources["train"]
        for folder in (tmp_path, tmp_path / "out")
    )
    for index in range(6):
        first, second = old.read(index), new.read(index)
        assert second.label == first.label
        assert first.classes is not None
        assert second.classes is not None
        assert second.classes.tolist() == first.classes.tolist()
        assert first.boxes is not None
        assert second.boxes is not None
        assert second.boxes.tolist() == first.boxes.tolist()
        assert first.masks is not None
        assert second.masks is not None
        for number in range(len(first.boxes)):
            assert np.array_equal(first.masks[number], second.masks[number])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        ([{"bbox": [1, 2, 3, 4], "category": "owl"}], "class 'owl' means none of the 1 classes"),
        ([{"bbox": [1, 2, 3], "category": "cat"}], "a box that is"),
        (
            [{"bbox": [1, 2, 3, 4], "category": "cat", "segmentation": {"size": [2, 2], "counts": [3]}}],
            "an RLE whose counts",
        ),
        (b"{", "objects that are neither lists nor JSON"),
    ],
)
def test_damaged_things_of_a_shard_cost_their_picture(objects: Any, reason: str) -> None:
    with pytest.raises(BrokenSample, match=rf"^a: \.json\.objects: {reason}"):
        with_objects(Sample(id="a", image=b""), objects, {"cat": 0}, ".json.objects")


def refused(folder: Path, kind: str, **task: Any) -> str:
    tasks = {"blots": {"kind": kind, "train": SOURCE, "size": 64, **task}}
    with pytest.raises(UserError) as error:
        open_tasks(parse_recipe({"tasks": tasks, "model": REGIONS}, {}, "recipe"), folder)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("augment", "reason"),
    [
        (
            {"randaugment": 2},
            "tasks.blots.augment.randaugment: not for a task about things: its operations turn and shift",
        ),
        ({"erasing": 0.1}, "augment.erasing: not for a task about things: a thing that is erased would still be asked"),
        ({"mixup": 0.2}, "augment.mixup: not for a task about things: a picture of two has the things of one"),
        ({"cutmix": 0.2}, "augment.cutmix: not for a task about things"),
    ],
)
def test_augmentation_that_boxes_do_not_follow(tmp_path: Path, augment: dict[str, Any], reason: str) -> None:
    write(tmp_path, THINGS)
    assert reason in refused(tmp_path, "object_detection", augment=augment)


def test_data_without_things_or_masks(tmp_path: Path) -> None:
    write(tmp_path, [])
    assert "tasks.blots.train: no thing is marked in any picture, so there is nothing" in refused(
        tmp_path, "object_detection"
    )
    write(tmp_path, [THINGS[0]])
    message = "tasks.blots.train: no thing has an outline, so there are no masks; use object_detection"
    assert message in refused(tmp_path, "instance_segmentation")
    assert message in refused(tmp_path, "instance_segmentation", train={**SOURCE, "part": [0, 0.5]})
    # To evaluate on pictures of nothing is no mistake.
    write(tmp_path / "empty", [])
    tasks = {"blots": {"kind": "object_detection", "val": SOURCE, "size": 64}}
    assert open_tasks(parse_recipe({"tasks": tasks, "model": REGIONS}, {}, "recipe"), tmp_path / "empty")


def test_a_class_without_a_thing_is_said(tmp_path: Path) -> None:
    write(tmp_path, [THINGS[0]])
    tasks = {"blots": {"kind": "object_detection", "train": SOURCE, "size": 64}}
    (data,) = open_tasks(parse_recipe({"tasks": tasks, "model": REGIONS}, {}, "recipe"), tmp_path)
    (note,) = lacking_notes(data)
    assert note.startswith("blots/train: classes without a sample: 'spot'; they are not learnt here")


def test_things_that_are_too_many_for_the_queries_are_said(tmp_path: Path) -> None:
    """A picture has five things and a crowd, another one thing, the third nothing."""
    write(tmp_path, THINGS)
    tasks = {"blots": {"kind": "object_detection", "train": SOURCE, "val": SOURCE, "size": 64}}
    (data,) = open_tasks(parse_recipe({"tasks": tasks, "model": REGIONS}, {}, "recipe"), tmp_path)
    assert crowded_notes(data, queries=5) == []
    train, val = crowded_notes(data, queries=2)
    assert train == (
        "blots/train: 1 of 3 pictures have more things than model.regions.queries 2, up to 5; "
        "3 things are not learnt: raise it"
    )
    assert val.endswith("3 things cannot be found: raise it")


def test_the_view_of_a_task_about_things_is_the_whole_picture(tmp_path: Path) -> None:
    write(tmp_path, THINGS)
    for fit, expected in ((None, "squash"), ("crop", "crop"), ("squash", "squash")):
        tasks = {"blots": {"kind": "object_detection", "train": SOURCE, "size": 64, "fit": fit}}
        (data,) = open_tasks(parse_recipe({"tasks": tasks, "model": REGIONS}, {}, "recipe"), tmp_path)
        assert data.preprocess.fit == expected
        assert data.preprocess.to_json().get("fit", "crop") == expected
