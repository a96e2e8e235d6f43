"""examples/original/: the settings of the original's published configurations, and recipes that train."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.markdown import ROOT
from tests.small_run import CLIPS, IMAGES, train
from uniperceiver.config import Recipe, TaskConfig
from uniperceiver.runs.tuning import tune_recipe
from uniperceiver.tasks.catalogue import CATALOGUE

FOLDER = ROOT / "examples/original"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


class Row(NamedTuple):
    lr: float
    weight_decay: float
    steps: int
    warmup: int
    batch: int  # samples of a step
    drop_path: float
    frames: int = 0  # of clips
    size: int = 224


# Typed from a reading of the original's configuration files.
TABLE = {
    "imagenet_full": Row(2e-5, 1e-8, 20_000, 2_000, 2048, 0.1),
    "imagenet_full_384": Row(2e-5, 1e-8, 40_000, 4_000, 1024, 0.1, size=384),
    "k400_full": Row(5e-6, 1e-4, 40_000, 2_000, 128, 0.1, frames=8),
    "coco_caption_full": Row(2e-5, 1e-4, 10_000, 500, 512, 0.2),
    "flickr_caption_full": Row(2e-6, 1e-4, 4_000, 500, 512, 0.1),
    "coco_retrieval_full": Row(5e-6, 1e-4, 10_000, 500, 4096, 0.2),
    "flickr_retrieval_full": Row(5e-6, 1e-4, 5_000, 200, 4096, 0.1),
    "msvd_caption_full": Row(2e-5, 1e-4, 1_000, 100, 32, 0.1, frames=4),
    "msvd_retrieval_full": Row(5e-6, 1e-4, 2_000, 200, 256, 0.1, frames=4),
    "imagenet_prompt": Row(1e-4, 0.0, 2_500, 500, 1024, 0.0),
    "k400_prompt": Row(5e-4, 0.0, 2_000, 200, 64, 0.0, frames=8),
    "coco_caption_prompt": Row(1e-3, 0.0, 1_000, 100, 512, 0.0),
    "flickr_caption_prompt": Row(1e-3, 0.0, 500, 50, 512, 0.0),
    "coco_retrieval_prompt": Row(1e-3, 0.0, 500, 50, 4096, 0.0),
    "flickr_retrieval_prompt": Row(1e-3, 0.0, 1_000, 50, 4096, 0.0),
    "msvd_caption_prompt": Row(1e-3, 0.0, 200, 25, 32, 0.0, frames=4),
    "msvd_retrieval_prompt": Row(1e-3, 0.0, 100, 10, 256, 0.0, frames=4),
}


KINDS = {
    "imagenet": "image_classification",
    "k400": "video_classification",
    "coco_caption": "image_captioning",
    "flickr_caption": "image_captioning",
    "coco_retrieval": "image_text_retrieval",
    "flickr_retrieval": "image_text_retrieval",
    "msvd_caption": "video_captioning",
    "msvd_retrieval": "video_text_retrieval",
}


def read(name: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Recipe, TaskConfig]:
    """The recipe as the command reads it, and its task."""
    for variable in ("IMAGENET", "K400", "COCO", "FLICKR", "MSVD"):
        monkeypatch.setenv(variable, "/data")
    recipe = tune_recipe(str(model), FOLDER / f"{name}.yaml", None, {})
    (task,) = recipe.tasks.values()
    return recipe, task


def test_every_row_has_its_recipe() -> None:
    assert set(TABLE) == set(NAMES)


@pytest.mark.parametrize("name", TABLE)
def test_settings_are_those_of_the_original(name: str, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (recipe, task), row = read(name, trained, monkeypatch), TABLE[name]
    optimiser, kind = recipe.optimiser, CATALOGUE[task.kind]
    found = Row(
        lr=optimiser.lr,
        weight_decay=optimiser.weight_decay,
        steps=recipe.steps,
        warmup=optimiser.warmup,
        batch=task.batch * optimiser.accumulate * recipe.sampling.tasks_per_step,
        drop_path=recipe.model.drop_path,
        frames=task.frames if kind.visual == "video" else 0,
        size=task.size,
    )
    assert found == row
    assert optimiser.betas == (0.9, 0.999 if name.startswith("imagenet_full") else 0.95)
    assert (optimiser.eps, optimiser.clip, task.label_smoothing) == (1e-6, 0.1, 0.1)
    text = (FOLDER / f"{name}.yaml").read_text()
    assert f"examples/original/{name}.yaml --out RUN" in text
    assert ("raise `batch` and lower `accumulate`" in text) == (kind.candidates == "in_batch")
    assert task.kind == next(kind for start, kind in KINDS.items() if name.startswith(start))


@pytest.mark.parametrize("name", TABLE)
def test_what_is_tuned_is_that_of_the_original(name: str, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tune = read(name, trained, monkeypatch)[0].tune
    if "_full" in name:
        assert (tune.method, tune.fraction) == ("full", 1.0)
        return
    assert (tune.method, tune.vectors, tune.fraction, tune.labels) == ("prompt", 10, 0.01, False)
    assert tune.shared == ("retrieval" not in name)  # one set of prompts, but for retrieval
    assert tune.head == (name == "imagenet_prompt")


@pytest.mark.parametrize("name", TABLE)
def test_it_trains(name: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of its kind on scenes, with everything else as the recipe says."""
    recipe, task = read(name, trained, monkeypatch)
    kind = CATALOGUE[task.kind]
    source: dict[str, Any] = {**(CLIPS if kind.visual == "video" else IMAGES), "items": 200}
    source["label"] = "shape" if kind.candidates == "labels" else "none"
    sizes = {"size": 32, "frames": 2, "stride": 1, "batch": 2, "length": 20}
    task = dataclasses.replace(task, train=source, val={**source, "items": 2}, test=None, **sizes)  # type: ignore[arg-type]
    small = dataclasses.replace(
        recipe,
        tasks={name: task},
        steps=2,
        device="cpu",
        optimiser=dataclasses.replace(recipe.optimiser, accumulate=2, warmup=1),
        evaluation=dataclasses.replace(recipe.evaluation, every=0),
        data=dataclasses.replace(recipe.data, workers=0),
        log=dataclasses.replace(recipe.log, tensorboard=False),
    )
    run = train(tmp_path, small)
    assert (run.state.step, run.state.skipped) == (2, 0)
    assert sum(run.state.consumed) == 8
