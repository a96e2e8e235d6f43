"""MODEL + DATA -> RECIPE: what `uniperceiver tune` trains, from a recipe or from a folder of pictures."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uniperceiver import strict
from uniperceiver.commands.recipe import parse_recipe
from uniperceiver.config import Recipe
from uniperceiver.data.sources.files import CLIP_SUFFIXES
from uniperceiver.errors import UserError
from uniperceiver.serving import saved as saved_files
from uniperceiver.serving.known import view_for
from uniperceiver.serving.places import model_folder
from uniperceiver.tasks.catalogue import CATALOGUE

_RECIPES = Path(__file__).parents[1] / "recipes"
_DEFAULT_METHOD = "prompt"
_SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test",),
}
_HELD_OUT = 0.2  # of a folder without splits


def tune_recipe(model: str, data: Path, method: str | None, overrides: Mapping[str, str]) -> Recipe:
    """The recipe that tunes a model on data.

    Args:
        model: a run, a saved model, or OWNER/NAME on the hub.
        data: a recipe; or a folder CLASS/FILE, or SPLIT/CLASS/FILE, of pictures or clips. For a folder, steps and
            learning rate are those of `recipes/tune_METHOD.yaml`.
        method: prompt or full; None: as the recipe says, or else prompt.

    Raises:
        UserError: there is no such model or data, or a key is wrong.
    """
    start = Path(model).expanduser()
    if data.is_dir():
        values = strict.read_yaml(_RECIPES / f"tune_{method or _DEFAULT_METHOD}.yaml")
        values["tasks"] = {data.resolve().name: _task_of(data, model)}
    else:
        values = strict.read_yaml(data)
    section = values.get("tune") or {}
    if not isinstance(section, Mapping):
        raise UserError(f"{data}: tune: expected a section, such as {{method: prompt}}")
    values["tune"] = {**section, "method": method or section.get("method") or _DEFAULT_METHOD}
    values["model"] = {**(values.get("model") or {}), "start": str(start.resolve()) if start.exists() else model}
    return parse_recipe(values, overrides, str(data))


def _task_of(folder: Path, model: str) -> dict[str, Any]:
    """A classification task on a folder, seen as the model saw its own pictures or clips."""
    inside = {path.name for path in folder.iterdir() if path.is_dir()}
    named = {split: next((name for name in names if name in inside), None) for split, names in _SPLITS.items()}
    root = folder.resolve()
    if named["train"] and named["val"]:
        sources: dict[str, Any] = {
            split: {"format": "folder", "path": str(root / name)} for split, name in named.items() if name
        }
    elif any(named.values()):
        raise UserError(f"{folder}: has {', '.join(filter(None, named.values()))}; both train and val are needed")
    else:
        whole = {"format": "folder", "path": str(root)}
        sources = {
            "train": {**whole, "part": [0.0, 1.0 - _HELD_OUT]},
            "val": {**whole, "part": [1.0 - _HELD_OUT, 1.0]},
        }
    kind = "video_classification" if _has_clips(root) else "image_classification"
    view = view_for(saved_files.load(model_folder(model)), CATALOGUE[kind])
    sight = {"size": view.size, "frames": view.frames, "stride": view.stride, "length": view.length}
    return {"kind": kind, "batch": 32, **sight, **sources}


def _has_clips(root: Path) -> bool:
    """Whether the first file with a known type is a clip; a folder that mixes both is refused when it is opened."""
    for _, below, files in os.walk(root):
        below.sort()
        if known := [file for file in sorted(files) if not file.startswith(".")]:
            return Path(known[0]).suffix.lower().lstrip(".") in CLIP_SUFFIXES
    raise UserError(f"{root}: holds no files; expected CLASS/FILE, or train/CLASS/FILE and val/CLASS/FILE")
