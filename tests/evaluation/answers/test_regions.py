"""What is measured of things in pictures, with a model that says what the test tells it to."""

import math
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.coco_reference import Scenery, coco_entries, coco_figures, coco_file, detections, made_up, things, with_masks
from uniperceiver.errors import UserError
from uniperceiver.evaluation.answers import EVALUATIONS
from uniperceiver.evaluation.evaluate import first_metric, main_metric, metric_names
from uniperceiver.evaluation.predictions import ClassPrecision, Prediction
from uniperceiver.evaluation.split import Settings, Split
from uniperceiver.records.regions import Detections, PictureThings, ProposalLayer, Regions
from uniperceiver.tasks.answers.regions import collated
from uniperceiver.tasks.ask import Answered
from uniperceiver.tasks.catalogue import CATALOGUE

NAMES = ["c0", "c1", "c2"]


def split_of(masks: bool = False, classes: int = 3) -> Split:
    task = CATALOGUE["instance_segmentation" if masks else "object_detection"]
    task = replace(task, name="cells", labels=tuple((name,) for name in NAMES[:classes]))
    nothing: Any = None
    return Split(task=task, index=0, name="val", source=nothing, preprocess=nothing, training_texts=lambda: iter(()))


def told(monkeypatch: pytest.MonkeyPatch, found: list[Detections], truth: list[PictureThings], batch: int = 3) -> None:
    """Make the model say these detections of these pictures; its loss is the number of things."""

    def batches(split: Split, settings: Settings) -> Iterator[tuple[Any, list[tuple[str, ...]]]]:
        for start in range(0, len(truth), batch):
            part = truth[start : start + batch]
            seen = [
                replace(
                    picture,
                    seen_box_G4=np.zeros((len(picture.class_O), 4), np.float32),  # type: ignore[arg-type]
                    seen_class_G=picture.class_O,
                    seen_crowd_G=picture.crowd_O,
                )
                for picture in part
            ]
            readout = SimpleNamespace(objects=collated(seen, kept=True))
            yield (
                SimpleNamespace(ids=tuple(f"p{start + n}" for n in range(len(part))), readout=readout),
                [()] * len(part),
            )

    def answer_among(model: Any, task: Any, batch: Any, c_KD: Any) -> Answered:
        objects = batch.readout.objects
        single = int((objects.known_BG & ~objects.crowd_BG).sum())
        target_R = torch.tensor([0] * single + [-1])
        readout: Any = SimpleNamespace(target_R=target_R, answers=single)
        terms = {"l1": torch.tensor(2.0 * single / max(1, single)), "objectness": torch.tensor(1.5) / max(1, single)}
        chosen_BN = torch.tensor([[int(name[1:])] for name in batch.ids])
        masks_B111 = torch.zeros(len(chosen_BN), 1, 1, 1)
        layer = ProposalLayer(objectness_BQ=chosen_BN.float(), box_BQ4=masks_B111, mask_BQHW=masks_B111)
        regions = Regions(layers=(layer, layer), chosen_BN=chosen_BN, start=1)
        logits_RK = torch.zeros(single + 1, len(task.labels))
        return Answered(logits_RK=logits_RK, decisions=(), readout=readout, terms=terms, regions=regions)

    room = "uniperceiver.evaluation.answers.regions"
    monkeypatch.setattr(f"{room}.batches", batches)
    monkeypatch.setattr(f"{room}.answer_among", answer_among)
    monkeypatch.setattr(f"{room}._represented", lambda *rest: None)

    def detections_of(logits_RK: Any, regions: Regions, pictures: Any, names: Any, term: str) -> list[Detections]:
        (number,) = regions.chosen_BN.flatten().tolist()
        (layer,) = regions.layers
        picture = found[number]
        assert (layer.mask_BQHW is None) == (picture.masks is None)
        return [picture]

    monkeypatch.setattr(f"{room}.detections_of", detections_of)


def measured(split: Split, **changes: Any) -> dict[str, float]:
    codec: Any = None
    settings = Settings(codec=codec, device=torch.device("cpu"), **changes)
    nothing: Any = None
    return EVALUATIONS["regions"].metrics(nothing, split, settings)


def test_boxes_are_measured_as_coco_does(monkeypatch: pytest.MonkeyPatch) -> None:
    found, truth = made_up(3, Scenery(pictures=12))
    told(monkeypatch, found, truth)
    metrics = measured(split_of())
    expected = coco_figures(coco_file(truth, (1, 3, 90)), coco_entries(found, (1, 3, 90)))
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    for name in expected:
        assert metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"]
    assert 0 < metrics["chance"] == metrics["chance_ap"] <= metrics["chance_ap50"] < metrics["ap50"]
    assert metrics["n"] == 12
    assert not [name for name in metrics if name.startswith("mask_")]


def test_masks_come_first_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found, truth = with_masks(0, pictures=9)
    told(monkeypatch, found, truth)
    metrics, split = measured(split_of(masks=True, classes=2)), split_of(masks=True)
    expected = coco_figures(coco_file(truth, (4, 2)), coco_entries(found, (4, 2)), "segm")
    there = {name: value for name, value in expected.items() if value >= 0}
    assert {name: metrics[f"mask_{name}"] for name in there} == pytest.approx(there, abs=1e-12)
    assert metrics["chance"] == metrics["chance_mask_ap"] != metrics["chance_ap"]
    assert (main_metric(split.task), first_metric(metrics)) == ("mask_ap", "mask_ap")
    assert metric_names(split.task) == ["mask_ap", "mask_ap50", "mask_ap75", "ap", "ap50", "ap75", "loss"]
    assert (main_metric(split_of().task), first_metric({"loss": 1.0, "ap": 0.5})) == ("ap", "ap")
    assert {"mask_ap_large", "ap_large"}.isdisjoint(metrics)  # there is no large thing in a picture of 24 pixels


def test_the_loss_does_not_depend_on_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    found, truth = made_up(3, Scenery(pictures=7, crowds=0.3))
    truth[2] = things([], [])
    things_there = sum(int((~picture.crowd_O).sum()) for picture in truth)  # type: ignore[operator]
    for batch, batches in ((1, 7), (3, 3), (7, 1)):
        told(monkeypatch, found, truth, batch)
        metrics = measured(split_of())
        assert metrics["nll"] == pytest.approx(math.log(3))
        assert metrics["localisation"] == pytest.approx(2.0 + 1.5 * batches / things_there)
        assert metrics["loss"] == pytest.approx(metrics["nll"] + metrics["localisation"])


def test_chance_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found, truth = made_up(3)
    told(monkeypatch, found, truth)
    memory: dict[object, dict[str, float]] = {}
    first = measured(split_of(), memory=memory)
    monkeypatch.setattr("uniperceiver.evaluation.answers.regions.best_constant_boxes", None)
    assert measured(split_of(), memory=memory) == first


def test_everything_that_was_found_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = [things([[0, 0, 10, 10], [50, 50, 90, 90]], [1, 0]), things([[0, 0, 40, 40]], [2], [True]), things([], [])]
    found = [
        detections([[0, 0, 10, 9], [0, 0, 10, 10], [200, 9, 300.25, 99]], [1, 1, 0], [0.5, 0.9, 0.7], NAMES),
        detections([[0, 0, 20, 20]], [2], [0.6], NAMES),
        detections([], [], [], NAMES),
    ]
    told(monkeypatch, found, truth, batch=2)
    predictions: list[Prediction] = []
    pictures: list[tuple[str, Detections]] = []
    by_class: list[ClassPrecision] = []
    measured(
        split_of(),
        on_predictions=predictions.extend,
        on_detections=lambda *pair: pictures.append(pair),
        on_precision=by_class.append,
    )
    assert [(row.sample, row.answer, row.truth, row.right, row.box) for row in predictions] == [
        ("p0", "c1", (), False, "0.00 0.00 10.00 9.00"),
        ("p0", "c1", ("c1",), True, "0.00 0.00 10.00 10.00"),
        ("p0", "c0", (), False, "200.00 9.00 300.25 99.00"),
        ("p1", "c2", (), None, "0.00 0.00 20.00 20.00"),
    ]
    assert [row.probability for row in predictions] == pytest.approx([0.5, 0.9, 0.7, 0.6])
    assert [name for name, _ in pictures] == ["p0", "p1", "p2"]
    (precision,) = by_class
    assert (precision.names, precision.things) == (tuple(NAMES), (1, 1, 0))
    assert precision.figures["ap50"] == (0.0, 1.0, None)
    assert precision.figures["ap_high"][2] is None


def test_a_split_without_things_has_nothing_to_find(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, [detections([], [], [], NAMES)] * 2, [things([], []), things([[0, 0, 9, 9]], [0], [True])])
    with pytest.raises(UserError, match=r"^cells/val: no picture has a thing in it, so there is nothing to find$"):
        measured(split_of())
