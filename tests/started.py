"""Runs that begin with another model, up to their first step."""

from pathlib import Path
from typing import Any

from uniperceiver import UniPerceiver, load
from uniperceiver.config import read_overrides, read_recipe
from uniperceiver.runs.prepare import prepare_run

TASKS = ("colours", "captions", "relations")
EXPERTS: dict[str, Any] = {"condition": "attribute", "layout": "release", "experts": 3, "k": 2, "layers": [1]}


def first_model(recipe_path: Path, folder: Path, *words: str) -> UniPerceiver:
    """The model of a run before its first step."""
    run = prepare_run(read_recipe(recipe_path, read_overrides(words)), recipe_path.parent, folder, quiet=True)
    folder.mkdir(exist_ok=True)
    run.callbacks.begin()
    run.callbacks.export(run.state)
    return load(folder)
