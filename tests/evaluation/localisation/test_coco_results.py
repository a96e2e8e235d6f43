"""A results file has the ids of the data, and pycocotools finds the same figures in it."""

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.coco_reference import Scenery, coco_figures, coco_file, made_up, with_masks
from uniperceiver.data.formats import open_source
from uniperceiver.data.formats.subset import Subset
from uniperceiver.evaluation.localisation.coco_results import CocoIds, CocoResults
from uniperceiver.evaluation.localisation.collected import FoundThings


class Numbered:
    """A source with ids that are no indices."""

    class_names = ("c0", "c1", "c2")
    category_ids = MappingProxyType({"c1": 3, "c2": 0, "c0": 90})
    image_ids = ("7", '"a"', "1")

    def names(self) -> Any:
        return iter([("x.jpg",), ("y/z.jpg", "z"), ("w.jpg",)])


def test_ids_are_those_of_the_data() -> None:
    source: Any = Numbered()
    ids = CocoIds.of(source)
    assert ids == CocoIds(images={"x.jpg": 7, "y/z.jpg": "a", "w.jpg": 1}, categories=(90, 3, 0))
    assert CocoIds.of(Subset(whole=source, index_I=np.array([2]))) == ids
    results = CocoResults(ids=ids)
    (picture, *_), _ = made_up(4)
    results.add("y/z.jpg", picture)
    assert {entry["image_id"] for entry in results.entries} == {"a"}
    assert [entry["category_id"] for entry in results.entries] == [(90, 3, 0)[label] for label in picture.classes]


def test_data_without_ids_are_called_by_name() -> None:
    source: Any = object()
    assert CocoIds.of(source) is None
    results = CocoResults(ids=None)
    (picture, *_), _ = made_up(4)
    results.add("y/z.jpg", picture)
    assert {entry["image_id"] for entry in results.entries} == {"y/z.jpg"}
    assert [entry["category_id"] for entry in results.entries] == [label + 1 for label in picture.classes]


@pytest.mark.parametrize("masks", [False, True])
def test_pycocotools_finds_the_same_figures_in_the_file(tmp_path: Path, masks: bool) -> None:
    found, truth = with_masks(0, pictures=9) if masks else made_up(3, Scenery(pictures=12))
    categories = (90, 3) if masks else (90, 3, 0)
    images = {f"p{number}": number for number in range(1, len(truth) + 1)}
    results, own = (
        CocoResults(ids=CocoIds(images=images, categories=categories)),
        FoundThings(names=found[0].names, masks=masks),
    )
    for name, picture, things in zip(images, found, truth, strict=True):
        results.add(name, picture)
        own.add(picture, things)
    results.write(tmp_path / "results.json")
    entries = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert len(entries) == sum(map(len, found))
    figures = own.figures()
    for kind, prefix in [("bbox", ""), ("segm", "mask_")][: 1 + masks]:
        for name, value in coco_figures(coco_file(truth, categories), entries, kind).items():
            assert figures.get(prefix + name, -1) == pytest.approx(value, abs=1e-6)


def test_a_coco_file_gives_its_ids(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "images" / "b.png")
    annotations = [{"id": 5, "image_id": 31, "category_id": 7, "bbox": [1, 2, 5, 6], "area": 30, "iscrowd": 0}]
    document = {
        "images": [{"id": 31, "file_name": "b.png", "width": 20, "height": 20}],
        "annotations": annotations,
        "categories": [{"id": 9, "name": "cat"}, {"id": 7, "name": "dog"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(document), encoding="utf-8")
    source = open_source({"format": "coco_instances", "path": "a.json", "images": "images"}, "w", tmp_path)
    assert CocoIds.of(source) == CocoIds(images={"b.png": 31}, categories=(7, 9))
