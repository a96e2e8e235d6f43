"""Tuning runs so small that they take a second: recipes without a model of their own, and folders of pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.small_run import IMAGES, TASKS, merged, values_of
from uniperceiver import Recipe, UniPerceiver
from uniperceiver.data.scenes.scene import SHAPES
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.strict import parse

SHAPES_TASK = {
    **TASKS["colours"],
    "train": {**IMAGES, "label": "shape", "seed": 5},
    "val": {**IMAGES, "label": "shape", "seed": 5, "split": "val"},
}
QUICK = ["steps=2", "evaluation.every=0", "evaluation.train_limit=4", "data.workers=0", "log.tensorboard=false"]


def tuning_values(start: Path, *tasks: str, method: str = "prompt", **changes: Any) -> dict[str, Any]:
    """A tuning recipe's mapping, on shapes unless tasks of the small run are named; changes as in `values_of`."""
    values = values_of(tasks)
    if not tasks:
        values["tasks"] = {"shapes": SHAPES_TASK}
    values["model"] = {"start": str(start), "drop_path": 0.1}
    values["tune"] = {"method": method, **({"vectors": 3} if method == "prompt" else {})}
    return merged(values, {name.replace("__", "."): value for name, value in changes.items()})


def tuning(start: Path, *tasks: str, method: str = "prompt", **changes: Any) -> Recipe:
    """The same as a Recipe."""
    return parse(Recipe, tuning_values(start, *tasks, method=method, **changes), "tuning recipe")


def pictures(count: int = 3) -> list[np.ndarray]:
    """Pictures of one thing each."""
    source = ScenesSource(items=count, pixels=32, objects=1, split="test")
    return [np.asarray(source.read(index).image) for index in range(count)]


def write_pictures(folder: Path, each: int = 5, classes: int = 3) -> Path:
    """folder/CLASS/NUMBER.png, of random pixels."""
    for label in range(classes):
        (folder / SHAPES[label]).mkdir(parents=True)
        for number in range(each):
            pixels = np.random.default_rng(100 * label + number).integers(0, 255, (32, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / SHAPES[label] / f"{number}.png")
    return folder


def state_of(model: UniPerceiver) -> dict[str, torch.Tensor]:
    """All tensors of a model."""
    return dict(model.model.state_dict())
