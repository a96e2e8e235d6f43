"""The runs that are stopped, killed and damaged here: so small that a step takes some hundredths of a second."""

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from tests.small_run import IMAGES, TEXTS, train, values_of
from uniperceiver import Recipe
from uniperceiver.cli import main
from uniperceiver.runs import train as runs
from uniperceiver.strict import parse
from uniperceiver.training import checkpoint

TASKS = ("colours", "captions", "relations")
SIZES = {"colours": 16, "captions": 12, "relations": 60}
MODELS: dict[str, dict[str, Any]] = {
    "dense": {"condition": "shared"},
    "attribute": {"condition": "attribute", "experts": 3, "k": 2},
    "token": {"condition": "token", "experts": 3, "k": 2, "balance": {"bias_rate": 0.01}},
}


def values(model: str = "dense", **changes: Any) -> dict[str, Any]:
    """A recipe with three tasks of different sizes, accumulation, an average, and steps like those of a long run."""
    sources = {
        "tasks__colours__train": {**IMAGES, "label": "colour", "items": SIZES["colours"]},
        "tasks__captions__train": {**IMAGES, "items": SIZES["captions"]},
        "tasks__relations__train": {**TEXTS, "label": "relation", "items": SIZES["relations"]},
    }
    batches = {f"tasks__{name}__batch": 2 for name in TASKS}
    settings: dict[str, Any] = {
        "moe": MODELS[model],
        "candidates__sample": 20,
        "optimiser__accumulate": 2,
        "optimiser__ema": 0.9,
        "optimiser__warmup": 3,
    }
    return values_of(TASKS, **{**sources, **batches, **settings, **changes})


def recipe(model: str = "dense", **changes: Any) -> Recipe:
    """The same as a Recipe."""
    return parse(Recipe, values(model, **changes), "soak")


def train_command(folder: Path, recipe_values: Mapping[str, Any]) -> Callable[[], int]:
    """What trains in `folder/run` as the command line does, but without measuring and report at the end."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(dict(recipe_values), sort_keys=False), encoding="utf-8")

    def work() -> int:
        quieten()
        setattr(runs, "evaluate", lambda *args, **more: {"tasks": {}})  # noqa: B010
        setattr(runs, "write_report", lambda folder, *more, **options: folder / "report.html")  # noqa: B010
        return main(["train", str(path), "--out", str(folder / "run")])

    return work


def quieten() -> None:
    """One thread, and no warning that there are more loader processes than cores: that is the point."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="This DataLoader will create")


def warm_up(folder: Path) -> None:
    """Import here what a first step imports, so that no forked process has to."""
    train(folder, recipe(steps=1))


def hash_of(tensors: Mapping[str, Mapping[str, Tensor]], counters: Mapping[str, Any]) -> str:
    """One hash of weights, moments, average and counters; equal only where all of them are, bit for bit."""
    digest = hashlib.sha256(json.dumps(counters, sort_keys=True).encode())
    for group, members in sorted(tensors.items()):
        for name, value in sorted(members.items()):
            digest.update(f"{group}/{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def hash_of_checkpoint(folder: Path) -> str:
    """The hash of what a checkpoint holds."""
    return hash_of(*checkpoint.read(folder))


def newest_hash(run: Path) -> str:
    """The hash of the newest checkpoint of a run."""
    path = checkpoint.newest_valid(run / "checkpoints").path
    assert path is not None
    return hash_of_checkpoint(path)
