"""Runs so small that they take a second: the recipe of tasks on generated scenes, and comparisons of their states."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from uniperceiver import Recipe
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.strict import parse
from uniperceiver.training.loop import Run
from uniperceiver.training.state import pack
from uniperceiver.training.stop import Stopped

IMAGES = {"format": "scenes", "items": 12, "pixels": 32, "objects": 1}
CLIPS = {**IMAGES, "view": "clip", "frames": 2}
TEXTS = {"format": "scenes", "items": 12, "view": "text"}


def _task(kind: str, source: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "train": source,
        "val": {**source, "split": "val"},
        "batch": 3,
        "size": 32,
        "frames": 2,
        **more,
    }


TASKS: dict[str, dict[str, Any]] = {
    "colours": _task("image_classification", {**IMAGES, "label": "colour"}),
    "motions": _task("video_classification", {**CLIPS, "label": "motion"}),
    "relations": _task("text_classification", {**TEXTS, "label": "relation"}),
    "words": _task("masked_language_modelling", TEXTS),
    "captions": _task("image_captioning", IMAGES),
    "clip_captions": _task("video_captioning", CLIPS),
    "retrieval": _task("image_text_retrieval", IMAGES),
    "clip_retrieval": _task("video_text_retrieval", CLIPS),
}
BASE: dict[str, Any] = {
    "steps": 4,
    "device": "cpu",
    "model": {"width": 16, "layers": 1, "heads": 2, "vocabulary": 280, "max_text": 128, "drop_path": 0.1},
    "sampling": {"tasks_per_step": 2},
    "optimiser": {"warmup": 2, "lr": 0.01},
    "data": {"workers": 0},
    "evaluation": {"every": 0, "limit": 4, "batch": 8, "max_words": 5},
    "checkpoint": {"every": 100},
    "log": {"every": 1, "tensorboard": False},
}


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of `values` with `changes`, whose keys may be dotted."""
    result = copy.deepcopy(dict(values))
    for name, value in changes.items():
        *parents, last = name.split(".")
        section = result
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
    return result


def values_of(tasks: tuple[str, ...] = ("colours", "captions"), **changes: Any) -> dict[str, Any]:
    """A recipe's mapping; a change of `optimiser.lr` is written optimiser__lr."""
    values = {**BASE, "tasks": {name: TASKS[name] for name in tasks}}
    return merged(values, {name.replace("__", "."): value for name, value in changes.items()})


def small_recipe(tasks: tuple[str, ...] = ("colours", "captions"), **changes: Any) -> Recipe:
    """The same as a Recipe."""
    return parse(Recipe, values_of(tasks, **changes), "small recipe")


def write_recipe(path: Path, values: Mapping[str, Any]) -> Path:
    """A recipe file."""
    path.write_text(yaml.safe_dump(dict(values), sort_keys=False), encoding="utf-8")
    return path


def train(folder: Path, recipe: Recipe, stop_after: int | None = None, *, base: Path | None = None) -> Run:
    """Train in this process; a stop is asked for, as by a signal, when `stop_after` steps are done."""
    run = prepare_run(recipe, base or folder, folder, quiet=True)
    if stop_after is None:
        run.train()
        return run
    step = run._evaluate_and_save

    def evaluate_and_save(log: Any, stop: Any) -> None:
        stop.requested |= run.state.step >= stop_after
        step(log, stop)

    run._evaluate_and_save = evaluate_and_save  # type: ignore[method-assign]
    try:
        run.train()
    except Stopped:
        return run
    raise AssertionError("the run was not stopped")


def log_lines(folder: Path, event: str) -> list[dict[str, Any]]:
    """The lines of log.jsonl of that event."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def same_tensors(tensors: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> bool:
    """Whether both have the same names and, bit for bit, the same values."""
    return tensors.keys() == others.keys() and all(torch.equal(value, others[name]) for name, value in tensors.items())


def assert_same(run: Run, other: Run) -> None:
    """Two runs have come to the same weights, moments, averages and counters."""
    names = [training_set.task.name for training_set in run.mixture.sets]
    groups, counters = pack(run.state, names)
    others, other_counters = pack(other.state, names)
    assert counters == other_counters
    assert groups.keys() == others.keys()
    for group in groups:
        assert same_tensors(groups[group], others[group]), group
    assert len(groups["optimiser"]) > 10
