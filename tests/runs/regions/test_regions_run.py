"""Models that read pictures as regions, from a recipe to answers: all of v2's tasks, alone and together."""

import contextlib
import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.regions_run import REGION_TASKS, region_values
from tests.small_run import assert_same, train, write_recipe
from uniperceiver import Recipe, load
from uniperceiver.cli import main
from uniperceiver.data.batch import collate, prepare
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.errors import UserError
from uniperceiver.records.regions import Detections
from uniperceiver.streams import numpy_stream
from uniperceiver.strict import parse

ALL = tuple(REGION_TASKS)


def recipe_of(tasks: tuple[str, ...] = ("boxes", "captions"), **changes: Any) -> Recipe:
    return parse(Recipe, region_values(tasks, **changes), "recipe of regions")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of all tasks with experts of attributes."""
    folder = tmp_path_factory.mktemp("regions")
    experts = {"moe__condition": "attribute", "moe__where": "ffn", "moe__experts": 3}
    recipe = write_recipe(folder / "recipe.yaml", region_values(ALL, steps=6, **experts))
    assert main(["train", str(recipe), "--out", str(folder / "run")]) == 0
    return folder / "run"


def picture(index: int = 0) -> np.ndarray:
    image = ScenesSource(items=20, pixels=32, objects=3).read(index).image
    assert isinstance(image, np.ndarray)
    return image


def test_all_tasks_are_trained_and_measured(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())["tasks"]
    assert list(results) == list(ALL)
    for name in ("boxes", "shapes"):
        metrics = results[name]["val"]
        assert metrics["n"] == 12
        assert 0 <= metrics["ap"] <= metrics["ap50"] <= 1
        assert metrics["loss"] == pytest.approx(metrics["nll"] + metrics["localisation"])
    assert "mask_ap" in results["shapes"]["val"]
    assert "mask_ap" not in results["boxes"]["val"]
    assert (run / "report.html").is_file()


def test_things_are_found_in_pixels_of_the_picture(run: Path) -> None:
    model = load(run)
    wide = np.pad(picture(), ((0, 0), (0, 32), (0, 0)))
    narrow, broad = model.detect([picture(), wide], task="boxes", least=0.0)
    assert isinstance(narrow, Detections)
    assert (narrow.size, broad.size) == ((32, 32), (32, 64))
    assert len(narrow) == 5 * 7  # proposals x shapes, fewer than 100
    assert (np.diff(narrow.scores) <= 0).all()
    assert narrow.masks is None
    assert (broad.boxes >= 0).all()
    assert (broad.boxes[:, [0, 2]] <= 64).all()
    assert (broad.boxes[:, [1, 3]] <= 32).all()
    assert set(narrow.labels) <= set(model.labels("boxes"))
    assert len(model.detect(picture(), task="boxes", least=1.0)[0]) == 0
    assert len(model.detect(picture(), task="boxes", least=0.0, most=3)[0]) == 3


def test_any_labels_can_be_asked_for(run: Path) -> None:
    model = load(run)
    (answer,) = model.detect(picture(), labels=["a cat", ["a dog", "a hound"]], task="boxes", least=0.0)
    assert set(answer.labels) <= {"a cat", "a dog"}
    assert len(answer) == 5 * 2


def test_numbers_of_numpy_are_numbers(run: Path) -> None:
    (answer,) = load(run).detect(picture(), task="boxes", least=np.float32(0), most=np.int64(2))  # type: ignore[arg-type]
    assert len(answer) == 2


def test_things_of_the_only_class_may_be_renamed(tmp_path: Path) -> None:
    write_coco(tmp_path)
    file = tmp_path / "instances.json"
    things = json.loads(file.read_text())
    entries = [{**entry, "category_id": 1} for entry in things["annotations"]]
    file.write_text(json.dumps({**things, "categories": [{"id": 1, "name": "cell"}], "annotations": entries}))
    source = {"format": "coco_instances", "path": str(file), "images": str(tmp_path)}
    task = {"kind": "object_detection", "train": source, "batch": 3, "size": 32}
    values = {**region_values(("boxes",), steps=1), "tasks": {"cells": task}}
    train(tmp_path / "run", parse(Recipe, values, "recipe of one class"))
    model = load(tmp_path / "run")
    (answer,), (renamed,) = (
        model.detect(picture(), labels=labels, least=0.0) for labels in (None, ["a round nucleus"])
    )
    assert renamed.labels == ["a round nucleus"] * len(answer)
    assert renamed.scores == pytest.approx(answer.scores)  # of being a thing: no name competes


def test_masks_come_with_segmentation(run: Path) -> None:
    (answer,) = load(run).segment(picture(), least=0.0)  # the only task that has masks
    assert answer.masks is not None
    assert answer.masks.shape == (len(answer), 32, 32)
    entry = answer.as_coco(1)[0]
    assert entry["segmentation"]["size"] == [32, 32]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"least": 2}, "least must lie between 0 and 1"),
        ({"most": 0}, "most must be a number of detections"),
        ({"labels": []}, "label"),
        ({"labels": ["cat", "cat"]}, "cat"),
        ({"labels": ["cat"]}, "'cat' alone would be the name of every thing"),
        ({"most": True}, "most must be a number of detections"),
        ({"least": float("nan")}, "least must lie between 0 and 1"),
        ({"task": 5}, "task: a int is no task"),
        ({"task": "colours"}, "cannot be asked of task 'colours'"),
    ],
)
def test_questions_that_cannot_be_asked_are_refused(run: Path, call: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(run).detect(picture(), **{"task": "boxes", **call})


def test_the_other_tasks_are_asked_as_ever(run: Path) -> None:
    model = load(run)
    assert model.classify(picture(), task="colours").sum().item() == pytest.approx(1, abs=1e-5)
    assert len(model.caption(picture(), task="captions", max_words=3)) == 1
    assert model.rank(picture(), ["a red circle"], task="retrieval").shape == (1, 1)
    assert model.encode_image(picture()).shape == (1, 16)


def test_batches_and_neighbours_change_no_answer(run: Path) -> None:
    model = load(run)
    pictures = [picture(index) for index in range(5)]
    together = model.detect(pictures, task="boxes", least=0.0)
    for image, answer in zip(pictures, together, strict=True):
        (alone,) = model.detect(image, task="boxes", least=0.0)
        assert alone.scores == pytest.approx(answer.scores, abs=1e-5)
        assert alone.boxes == pytest.approx(answer.boxes, abs=1e-3)


def test_a_merged_model_finds_the_same(run: Path) -> None:
    model = load(run)
    merged = model.merge()
    assert merged.saved.arch.merged is not None
    for image in (picture(1), picture(2)):
        (routed,), (folded,) = (asked.detect(image, task="boxes", least=0.0) for asked in (model, merged))
        assert folded.scores == pytest.approx(routed.scores, abs=1e-5)
        assert folded.boxes == pytest.approx(routed.boxes, abs=1e-3)


def test_the_command_line_says_what_python_says(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(picture()).save(tmp_path / "scene.png")
    arguments = ["predict", str(run), "segment", "--least", "0", "--json", "--", str(tmp_path / "scene.png")]
    assert main(arguments) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    (expected,) = load(run).segment(tmp_path / "scene.png", least=0.0)
    assert (answer["height"], answer["width"]) == (32, 32)
    assert len(answer["detections"]) == len(expected)
    for entry, label, score, box in zip(
        answer["detections"], expected.labels, expected.scores, expected.boxes, strict=True
    ):
        x0, y0, x1, y1 = box.tolist()
        assert entry["label"] == label
        assert entry["score"] == pytest.approx(float(score), abs=1e-6)
        assert entry["box"] == pytest.approx([x0, y0, x1, y1], abs=1e-4)
        assert entry["bbox"] == pytest.approx([x0, y0, x1 - x0, y1 - y0], abs=1e-4)
        assert entry["segmentation"]["size"] == [32, 32]


def test_a_table_has_a_row_for_each_thing(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(picture()).save(tmp_path / "scene.png")
    arguments = ["--least", "0", "--out", str(tmp_path / "things.csv"), "--", str(tmp_path / "scene.png")]
    assert main(["predict", str(run), "detect", *arguments]) == 2
    assert "predict detect: give --labels TEXT ..., or --task one of boxes, shapes" in capsys.readouterr().err
    assert main(["predict", str(run), "segment", *arguments]) == 0  # of the only task with masks
    with (tmp_path / "things.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    (expected,) = load(run).segment(tmp_path / "scene.png", least=0.0)
    assert [row["answer"] for row in rows] == expected.labels
    for corner, name in enumerate(("x0", "y0", "x1", "y1")):
        assert [float(row[name]) for row in rows] == pytest.approx(expected.boxes[:, corner].tolist(), abs=1e-4)


def test_a_model_is_described_with_what_its_proposals_have(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(run), "--json"]) == 0
    tasks = json.loads(capsys.readouterr().out)["tasks"]
    assert {name: task.get("proposals") for name, task in tasks.items()} == {
        **dict.fromkeys(ALL), "boxes": "boxes", "shapes": "boxes and masks"
    }  # fmt: skip


@pytest.mark.parametrize(("denoise", "workers"), [(0, 1), (4, 0), (4, 2)])
def test_a_stopped_run_goes_on_as_if_it_had_not(tmp_path: Path, denoise: int, workers: int) -> None:
    keys = {"model__regions__denoise": denoise, "data__workers": workers}
    recipe = recipe_of(("boxes", "shapes", "captions"), steps=4, **keys)
    whole = train(tmp_path / "whole", recipe)
    for stop in (1, 2, 3):
        folder = tmp_path / f"stopped{stop}"
        train(folder, recipe, stop_after=stop)
        assert_same(train(folder, recipe), whole)


def test_answers_do_not_look_at_the_truth(tmp_path: Path) -> None:
    """The things of a picture are targets: without them, or with others, proposals are the same, bit for bit."""
    run = train(tmp_path, recipe_of(("boxes",), steps=2))
    data = run.tasks[0]
    sample, codec = data.sources["val"].read(0), run.objective.codec
    others = replace(sample, boxes=sample.boxes[::-1] * 0.5, classes=sample.classes[::-1])
    nothing = replace(sample, boxes=None, classes=None, masks=None)
    encoded = []
    for changed in (sample, others, nothing):
        item = prepare(data.task, changed, data.preprocess, codec, None, numpy_stream(0, "same"))
        with torch.no_grad():
            encoded.append(run.state.model.encode(collate(data.task, [item], codec).inputs))
    for other in encoded[1:]:
        assert torch.equal(encoded[0].x_BND, other.x_BND)


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("boxes", {"model__image": "patches"}, "reads proposals, which model.image=patches does not make; set"),
        ("colours", {"model__image": "patches"}, "model.regions: has no effect with model.image=patches"),
        ("boxes", {"model__regions__kinds": "global"}, "are no tokens with model.regions.kinds=global"),
        ("boxes", {"model__regions__tokens": 9}, "tokens: 9 is more than model.regions.queries 6"),
    ],
)
def test_recipes_that_cannot_be_are_refused(tmp_path: Path, task: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(tmp_path / "run", recipe_of((task,), **changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kinds", ["global", "proposals"])
def test_other_tasks_read_some_of_the_tokens(tmp_path: Path, kinds: str) -> None:
    run = train(tmp_path, recipe_of(("colours", "captions"), steps=2, model__regions__kinds=kinds))
    shape = run.state.model.tokenizer.get_submodule("regions").shape
    assert shape.kinds == kinds
    assert run.state.step == 2


def test_a_results_file_is_scored_alike_by_pycocotools(run: Path, tmp_path: Path) -> None:
    """COCO files go in, a results file with their ids comes out."""
    write_coco(tmp_path)
    values = region_values(("boxes",), steps=2)
    source = {"format": "coco_instances", "path": "instances.json", "images": "."}
    values["tasks"]["boxes"] |= {"train": source, "val": source}
    recipe = write_recipe(tmp_path / "recipe.yaml", values)
    assert main(["train", str(recipe), "--out", str(tmp_path / "run")]) == 0
    file = tmp_path / "found.json"
    for _ in range(2):  # a results file may be replaced by another
        assert main(["evaluate", str(tmp_path / "run"), "--detections", str(file), "--json", str(tmp_path / "r")]) == 0
    metrics = json.loads((tmp_path / "r").read_text())["tasks"]["boxes"]["val"]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / "instances.json"))
        scored = COCOeval(truth, truth.loadRes(str(file)), "bbox")
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    assert metrics["ap"] == pytest.approx(scored.stats[0], abs=1e-6)
    assert metrics["ap50"] == pytest.approx(scored.stats[1], abs=1e-6)
    assert metrics["ar100"] == pytest.approx(scored.stats[8], abs=1e-6)


def write_coco(folder: Path) -> None:
    """Twelve scenes as COCO instances, with ids that have gaps."""
    source = ScenesSource(items=12, pixels=32, objects=3, label="shape")
    assert source.class_names is not None
    images, annotations = [], []
    for index in range(12):
        sample = source.read(index)
        assert isinstance(sample.image, np.ndarray)
        assert sample.boxes is not None
        assert sample.classes is not None
        Image.fromarray(sample.image).save(folder / f"{index}.png")
        images.append({"id": 5 * index + 2, "file_name": f"{index}.png", "width": 32, "height": 32})
        for (x0, y0, x1, y1), label in zip(sample.boxes.tolist(), sample.classes.tolist(), strict=True):
            box = [x0, y0, x1 - x0, y1 - y0]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 5 * index + 2,
                    "category_id": 3 * label + 7,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 3 * label + 7, "name": name} for label, name in enumerate(source.class_names)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(document), encoding="utf-8")


def test_a_results_file_is_about_one_task(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--detections", str(tmp_path / "found.json")]) == 2
    assert "boxes/val, shapes/val; name them with --task and --split" in capsys.readouterr().err
    assert not (tmp_path / "found.json").exists()
