"""Tones with names, clips beside them, and runs that hear: so small that they take a second."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import uniperceiver
from tests.small_run import BASE, merged
from uniperceiver import Recipe
from uniperceiver.data.media.pixels import Preprocess
from uniperceiver.data.tasks import TaskData
from uniperceiver.records import Sample
from uniperceiver.records.sounds import Sound
from uniperceiver.strict import parse
from uniperceiver.tasks.catalogue import CATALOGUE

RATE = 8000
LABELS = (("low",), ("high",))
KINDS = {
    "tones": "audio_classification",
    "films": "audiovisual_classification",
    "told": "audio_captioning",
    "texts": "audio_text_retrieval",
    "pairs": "video_audio_retrieval",
}
SOUND = {"rate": RATE, "mels": 16, "patch": [4, 8]}
SIGHT = {"size": 32, "frames": 2, "seconds": 0.256, "length": 16, "batch": 4}


@dataclass(frozen=True)
class Tones:
    """Low and high tones of different lengths, each with a clip and a caption."""

    count: int = 12
    classes = LABELS

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Sample:
        rng, label = np.random.default_rng(index), index % 2
        times_L = np.arange(round(RATE * rng.uniform(0.15, 0.4))) / RATE
        hertz = rng.uniform(200, 400) * (1 + 4 * label)
        x_L = 0.3 * np.sin(2 * np.pi * hertz * times_L) + rng.normal(0, 0.01, len(times_L))
        clip = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
        text = f"number {index} : {LABELS[label][0]}"
        return Sample(
            id=f"tone/{index}",
            image=clip[0],
            clip=clip,
            captions=(text,),
            label=label,
            others={"audio": Sound(x_L.astype(np.float32), RATE)},
        )

    def texts(self) -> Iterator[str]:
        yield from (self.read(index).captions[0] for index in range(self.count))


def hearing_recipe(kinds: Mapping[str, str] = KINDS, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe of tasks of these kinds, by their names."""
    tasks = {
        name: {"kind": kind} | {key: SIGHT[key] for key in SIGHT if key != "seconds" or CATALOGUE[kind].hears}
        for name, kind in kinds.items()
    }
    hears = any(CATALOGUE[kind].hears for kind in kinds.values())
    values = {**BASE, "tasks": tasks, "model": {**BASE["model"], **({"sound": SOUND} if hears else {})}}
    return parse(Recipe, merged(values, changes or {}), "recipe")


def hearing_tasks(recipe: Recipe, source: Any = Tones()) -> list[TaskData]:
    """The recipe's tasks with tones as their data."""
    tasks = []
    for index, (name, config) in enumerate(recipe.tasks.items()):
        task = replace(CATALOGUE[config.kind], name=name)
        task = replace(task, labels=LABELS) if task.answer.has_labels else task
        view = Preprocess(**{key: getattr(config, key) for key in ("size", "frames", "seconds", "hop", "length")})
        sources = {split: source for split in ("train", "val")}
        tasks.append(TaskData(task=task, index=index, config=config, sources=sources, preprocess=view))
    return tasks


def train_hearing(folder: Path, kinds: Mapping[str, str] = KINDS, changes: Mapping[str, Any] | None = None) -> Path:
    """A finished run of such a recipe."""
    recipe = hearing_recipe(kinds, changes)
    uniperceiver.train(recipe, folder, tasks=hearing_tasks(recipe), quiet=True)
    return folder
