"""Pictures with things and detections, made up, and what pycocotools makes of them."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from uniperceiver.evaluation.localisation.average_precision import METRICS
from uniperceiver.records.regions import Detections, PictureThings, run_lengths

SIDE = 24  # pixels of a made-up picture with masks


def things(boxes: Any, classes: Sequence[int], crowd: Sequence[bool] | None = None, **more: Any) -> PictureThings:
    """The things of a picture of 300 x 400 pixels, as evaluation has them."""
    box_O4 = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    crowd_O = np.zeros(len(box_O4), bool) if crowd is None else np.array(crowd, dtype=bool)
    size = more.pop("size", (300, 400))
    return PictureThings(
        size=size,
        window=(0.0, 0.0, float(size[1]), float(size[0])),
        seen_box_G4=np.zeros((0, 4), np.float32),
        seen_class_G=np.zeros(0, np.int64),
        seen_crowd_G=np.zeros(0, bool),
        box_O4=box_O4,
        class_O=np.array(classes, dtype=np.int64),
        crowd_O=crowd_O,
        **more,
    )


def detections(
    boxes: Any, classes: Sequence[int], scores: Sequence[float], names: Sequence[str], **more: Any
) -> Detections:
    """Detections in a picture of 300 x 400 pixels."""
    return Detections(
        size=more.pop("size", (300, 400)),
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        scores=np.array(scores, dtype=np.float32),
        classes=np.array(classes, dtype=np.int64),
        names=names,
        **more,
    )


@dataclass(frozen=True, kw_only=True)
class Scenery:
    """How pictures are made up."""

    pictures: int = 4
    classes: int = 3
    things: int = 6  # most of a picture
    surplus: int = 5  # most detections beside those of things
    crowds: float = 0.1
    tied: bool = False  # all scores are equal
    largest: int = 150  # pixels of a side
    coarse: int = 4  # parts of a pixel that corners lie on


def made_up(seed: int, scenery: Scenery = Scenery()) -> tuple[list[Detections], list[PictureThings]]:
    """Pictures whose detections lie near their things, or anywhere."""
    rng = np.random.default_rng(seed)
    names = [f"c{label}" for label in range(scenery.classes)]
    answers, truth = [], []
    for _ in range(scenery.pictures):
        count = int(rng.integers(0, scenery.things + 1))
        box_O4, class_O = _boxes(rng, count, scenery), rng.integers(0, scenery.classes, count)
        truth.append(things(box_O4, class_O.tolist(), (rng.random(count) < scenery.crowds).tolist()))
        near = np.repeat(np.arange(count), rng.integers(0, 3, count))
        jitter_D4 = np.round(rng.normal(0, 3, (len(near), 4)) * scenery.coarse) / scenery.coarse
        extra = int(rng.integers(0, scenery.surplus + 1))
        box_D4 = np.concatenate([box_O4[near] + jitter_D4, _boxes(rng, extra, scenery)])
        box_D4[:, 2:] = np.maximum(box_D4[:, 2:], box_D4[:, :2])
        class_D = np.concatenate([class_O[near], rng.integers(0, scenery.classes, extra)])
        luck_D = np.where(np.arange(len(box_D4)) < len(near), 0.3, 0.0) + 0.7 * rng.random(len(box_D4))
        score_D = np.full(len(box_D4), 0.5) if scenery.tied else np.round(luck_D, 2)
        answers.append(detections(box_D4, class_D.tolist(), score_D.tolist(), names))
    return answers, truth


def _boxes(rng: np.random.Generator, count: int, scenery: Scenery) -> np.ndarray:
    corner_N2 = np.round(rng.random((count, 2)) * 200 * scenery.coarse) / scenery.coarse
    size_N2 = np.round((1 + rng.random((count, 2)) ** 2 * scenery.largest) * scenery.coarse) / scenery.coarse
    return np.concatenate([corner_N2, corner_N2 + size_N2], axis=1)


def with_masks(seed: int, pictures: int = 4, classes: int = 2) -> tuple[list[Detections], list[PictureThings]]:
    """Pictures of SIDE pixels with masks that are rectangles with holes; some things are crowds."""
    rng = np.random.default_rng(seed)
    names, answers, truth = [f"c{label}" for label in range(classes)], [], []
    for _ in range(pictures):
        count, extra = int(rng.integers(0, 5)), int(rng.integers(0, 4))
        mask_OHW = np.array([_mask(rng) for _ in range(count)], dtype=bool).reshape(count, SIDE, SIDE)
        near = np.repeat(np.arange(count), rng.integers(0, 3, count))
        shifted = [np.roll(mask_OHW[place], rng.integers(-2, 3, 2), axis=(0, 1)) for place in near]
        masks = [*shifted, *(_mask(rng) for _ in range(extra))]
        mask_DHW = np.array(masks, dtype=bool).reshape(-1, SIDE, SIDE)
        class_O = rng.integers(0, classes, count)
        class_D = np.concatenate([class_O[near], rng.integers(0, classes, extra)])
        size = (SIDE, SIDE)
        crowd = (rng.random(count) < 0.2).tolist()
        truth.append(things(_around(mask_OHW), class_O.tolist(), crowd, masks=mask_OHW, size=size))
        score_D = np.round(rng.random(len(masks)), 1)
        answers.append(
            detections(_around(mask_DHW), class_D.tolist(), score_D.tolist(), names, masks=mask_DHW, size=size)
        )
    return answers, truth


def _mask(rng: np.random.Generator) -> np.ndarray:
    mask_HW = np.zeros((SIDE, SIDE), bool)
    y, x, height, width = (*rng.integers(0, SIDE - 4, 2), *rng.integers(2, 16, 2))
    mask_HW[y : y + height, x : x + width] = True
    mask_HW[y + 1 : y + height // 2, x + 1 : x + width // 2] = False
    return mask_HW


def _around(mask_NHW: np.ndarray) -> np.ndarray:
    boxes = []
    for mask_HW in mask_NHW:
        rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] if len(rows) else [0, 0, 0, 0])
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def coco_file(truth: Sequence[PictureThings], ids: Sequence[int]) -> dict[str, Any]:
    """The things as a COCO instances file; pictures are 1, 2, ..., `ids` those of the classes."""
    annotations: list[dict[str, Any]] = []
    for number, picture in enumerate(truth, start=1):
        assert picture.box_O4 is not None
        assert picture.class_O is not None
        assert picture.crowd_O is not None
        for place, (x0, y0, x1, y1) in enumerate(picture.box_O4.tolist()):
            area = (x1 - x0) * (y1 - y0)
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": ids[picture.class_O[place]]}
            entry |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": area, "iscrowd": int(picture.crowd_O[place])}
            mask_HW = None if picture.masks is None else picture.masks[place]
            if mask_HW is not None:
                entry |= {"segmentation": run_lengths(mask_HW), "area": float(mask_HW.sum())}
            annotations.append(entry)
    images = [{"id": n, "height": t.size[0], "width": t.size[1]} for n, t in enumerate(truth, start=1)]
    categories = [{"id": number, "name": f"c{label}"} for label, number in enumerate(ids)]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco_figures(file: dict[str, Any], entries: list[dict[str, Any]], kind: str = "bbox") -> dict[str, float]:
    """The metrics that pycocotools finds, -1 where there is no such thing; `kind` is bbox or segm."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = file
        data.createIndex()
        found = data.loadRes(entries) if entries else COCO()
        if not entries:
            found.dataset = {"images": file["images"], "annotations": [], "categories": file["categories"]}
            found.createIndex()
        evaluation = COCOeval(data, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = evaluation.stats.tolist()
    return dict(zip(METRICS, [*stats[:6], stats[8]], strict=True))


def coco_entries(answers: Sequence[Detections], ids: Sequence[int]) -> list[dict[str, Any]]:
    """The detections as entries of a COCO results file."""
    categories = {f"c{label}": number for label, number in enumerate(ids)}
    return [entry for number, a in enumerate(answers, start=1) for entry in a.as_coco(number, categories)]
