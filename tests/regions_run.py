"""Small runs of models that read pictures as regions: tasks over generated scenes."""

from typing import Any

from tests.small_run import BASE, merged

THINGS = {"format": "scenes", "items": 12, "pixels": 32, "objects": 3, "label": "shape"}


def _task(kind: str, source: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"kind": kind, "train": source, "val": {**source, "split": "val"}, "batch": 3, "size": 32, **more}


REGION_TASKS: dict[str, dict[str, Any]] = {
    "boxes": _task("object_detection", THINGS, augment={"crop": 0.5, "flip": 0.5, "flip_vertical": 0.5}),
    "shapes": _task("instance_segmentation", THINGS),
    "colours": _task("image_classification", {**THINGS, "label": "colour"}),
    "captions": _task("image_captioning", {**THINGS, "label": "none"}),
    "retrieval": _task("image_text_retrieval", {**THINGS, "label": "none"}),
}
REGIONS = {
    "backbone_layers": 1,
    "levels": 2,
    "decoder": 2,
    "queries": 6,
    "tokens": 5,
    "points": 2,
}


def region_values(tasks: tuple[str, ...] = ("boxes", "captions"), **changes: Any) -> dict[str, Any]:
    """A recipe's mapping; a change of `optimiser.lr` is written optimiser__lr."""
    values = {**BASE, "tasks": {name: REGION_TASKS[name] for name in tasks}}
    values = merged(values, {"model.image": "regions", "model.regions": REGIONS})
    return merged(values, {name.replace("__", "."): value for name, value in changes.items()})
