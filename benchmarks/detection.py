"""Detection from scratch: what this library's model and Hugging Face's Deformable DETR find after equal CPU seconds.

python -m benchmarks.detection [RECIPE] [--seconds S] [--seeds N] [--json FILE]
python -m benchmarks.detection [RECIPE] --step     # times of training steps alone, as ratios

The peer (`pip install transformers`; no weights are fetched) has equal width, queries and decoder layers, learns from
the same batches with AdamW at the recipe's learning rate, and is measured by the same average precision. RECIPE is
one with a task of kind object_detection; examples/cells.yaml unless said.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.harness import BenchmarkRow, ratio
from benchmarks.learning import Figures, Learned, OfRecipe, _splits, _steps_in, _trained, table
from uniperceiver import Recipe, TaskConfig, read_recipe
from uniperceiver.boxes import corners_of
from uniperceiver.data.tasks import open_tasks
from uniperceiver.errors import UserError
from uniperceiver.evaluation.localisation.collected import FoundThings
from uniperceiver.evaluation.split import batches
from uniperceiver.optimisation.adamw import learning_rate
from uniperceiver.records import Batch
from uniperceiver.records.regions import Detections, PictureThings

CELLS = Path(__file__).parent.parent / "examples" / "cells.yaml"
_OURS, _PEER = "uniperceiver", "Deformable DETR (transformers)"
_STEP_GOAL, _CAPTION_GOAL = 1.1, 1.5
_MOST = 100


class DeformablePeer:
    """Deformable DETR with two stages and box refinement on a small ResNet, on the batches of a run."""

    def __init__(self, feed: OfRecipe) -> None:
        (data,) = feed.run.tasks
        torch.manual_seed(feed.run.recipe.seed)
        self.steps, self._feed, self._done = feed.steps, feed, 0
        self.model = deformable_detr(feed.run.recipe, len(data.task.labels))
        self._optimiser = torch.optim.AdamW(self.model.parameters(), betas=(0.9, 0.95), weight_decay=0.05, fused=True)

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def step(self) -> None:
        ((_, batch),) = next(self._feed._work)
        optimiser = self._feed.run.recipe.optimiser
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(self._done, self.steps, optimiser)
        self._optimiser.zero_grad()
        self.model(pixel_values=_pictures(batch), labels=_labels(batch)).loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), optimiser.clip)
        self._optimiser.step()
        self._done += 1

    @torch.no_grad()
    def measured(self) -> Mapping[str, Figures]:
        self.model.eval()
        ((split, settings),) = _splits(self._feed.run)
        names = split.task.answer.names(split.task, settings.codec)
        found = FoundThings(names=names, masks=False)
        for batch, _ in batches(split, settings):
            outputs = self.model(pixel_values=_pictures(batch))
            assert batch.readout.objects is not None
            for row, things in enumerate(batch.readout.objects.pictures):
                found.add(_detections(outputs.logits[row], outputs.pred_boxes[row], things, names), things)
        self.model.train()
        return {split.task.name: Figures(loss=float("nan"), main=found.figures()["ap"])}


def deformable_detr(recipe: Recipe, classes: int) -> nn.Module:
    """The peer, from its configuration alone.

    Raises:
        UserError: transformers is missing.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection, ResNetConfig
    except ModuleNotFoundError:
        raise UserError("the peer needs transformers; pip install 'transformers>=5.20'") from None
    width, heads, regions = recipe.model.width or 128, recipe.model.heads or 4, recipe.model.regions
    backbone = ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 48, 64],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = DeformableDetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        d_model=width,
        encoder_layers=2,
        decoder_layers=regions.decoder,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        num_feature_levels=3,
        num_queries=regions.queries,
        two_stage_num_proposals=regions.queries,
        two_stage=True,
        with_box_refine=True,
        auxiliary_loss=True,
        num_labels=classes,
    )
    model: nn.Module = DeformableDetrForObjectDetection(config)
    return model


def _pictures(batch: Batch) -> Tensor:
    (part,) = batch.inputs.media
    return part.values[:, 0]


def _labels(batch: Batch) -> list[dict[str, Tensor]]:
    """The things of each picture as DETR's loss takes them; crowds are left out, as there."""
    objects = batch.readout.objects
    assert objects is not None
    single_BG = objects.single_BG
    return [
        {"class_labels": objects.class_BG[row][single_BG[row]], "boxes": objects.box_BG4[row][single_BG[row]]}
        for row in range(len(single_BG))
    ]


def _detections(logit_QK: Tensor, box_Q4: Tensor, things: PictureThings, names: Sequence[str]) -> Detections:
    """The best (query, class) pairs, as transformers' own post-processing takes them."""
    score_M, pair_M = logit_QK.sigmoid().flatten().topk(min(_MOST, logit_QK.numel()))
    left, top, right, bottom = things.window
    scale_4 = torch.tensor([right - left, bottom - top] * 2, dtype=torch.float32)
    corner_M4 = corners_of(box_Q4[pair_M // len(names)]) * scale_4 + torch.tensor([left, top] * 2, dtype=torch.float32)
    return Detections(
        size=things.size,
        boxes=corner_M4.numpy(),
        scores=score_M.numpy(),
        classes=(pair_M % len(names)).numpy().astype(np.int64),
        names=names,
    )


def _recipe(path: Path, seed: int) -> Recipe:
    """The recipe with its first detection task alone."""
    fixed = {"evaluation.every": "0", "data.workers": "0", "log.tensorboard": "false", "seed": str(seed)}
    recipe = read_recipe(path, fixed)
    tasks = {name: task for name, task in recipe.tasks.items() if task.kind == "object_detection"}
    if not tasks:
        raise UserError(f"{path}: has no task of kind object_detection")
    return replace(recipe, tasks=dict([next(iter(tasks.items()))]), sampling=replace(recipe.sampling, tasks_per_step=1))


def measure(path: Path, seeds: int, seconds: float) -> Iterator[Learned]:
    """Train both for the same CPU seconds, in turns of a step, seed after seed."""
    for seed in range(seeds):
        recipe = _recipe(path, seed)
        tasks = open_tasks(recipe, path.parent)
        with tempfile.TemporaryDirectory() as folder:

            def feed(name: str, steps: int, place: Path = Path(folder), recipe: Recipe = recipe) -> OfRecipe:
                return OfRecipe(recipe, tasks, path.parent, place / f"{name}{steps}", steps)  # noqa: B023

            ours = feed(_OURS, _steps_in(seconds, feed(_OURS, 1000)))
            peer = DeformablePeer(feed("peer", _steps_in(seconds, DeformablePeer(feed("peer", 1000)))))
            yield from _trained(path.stem, seed, {_OURS: ours, _PEER: peer})


def step_times(path: Path, pairs: int) -> list[BenchmarkRow]:
    """A training step of detection against the peer's, and one of captions over regions against patches."""
    recipe = _recipe(path, 0)
    tasks = open_tasks(recipe, path.parent)
    with tempfile.TemporaryDirectory() as folder:
        ours, feed = (OfRecipe(recipe, tasks, path.parent, Path(folder) / name, 10_000) for name in ("ours", "peer"))
        peer = DeformablePeer(feed)
        rows = [ratio("step/detection/deformable-detr", ours.step, peer.step, goal=_STEP_GOAL, pairs=pairs)]
        return [*rows, *(_caption_row(recipe, size, Path(folder), pairs) for size in ("as shipped", "of the recipe"))]


def _caption_row(recipe: Recipe, size: str, folder: Path, pairs: int) -> BenchmarkRow:
    """Captions over regions against patches; the goal is for the size as shipped, whose encoder has more layers."""
    shipped = size == "as shipped"
    if shipped:
        recipe = replace(recipe, model=replace(recipe.model, width=None, layers=None, heads=None))
    regions, patches = (_captions(recipe, image, folder / size) for image in ("regions", "patches"))
    name = f"step/captions/{recipe.model.size} {size}/regions-over-patches"
    return ratio(name, regions.step, patches.step, goal=_CAPTION_GOAL if shipped else None, pairs=pairs)


def _captions(recipe: Recipe, image: str, folder: Path) -> OfRecipe:
    """Captions of scenes at 64 pixels: 64 patches of 8, or 1 + 16 global tokens and 47 proposals."""
    scenes = {"format": "scenes", "items": 64, "objects": 3}
    task = TaskConfig(kind="image_captioning", train=scenes, batch=16)
    regions = replace(recipe.model.regions, queries=47, tokens=None)
    model = replace(recipe.model, image=image, regions=regions if image == "regions" else type(regions)())
    captioning = replace(recipe, tasks={"captions": task}, model=replace(model, vocabulary=300))
    return OfRecipe(captioning, open_tasks(captioning, Path()), Path(), folder / image, 10_000)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table or ratios, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("recipe", nargs="?", type=Path, default=CELLS, metavar="RECIPE")
    parser.add_argument("--seconds", type=float, default=90.0, help="CPU seconds of training steps of each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--step", action="store_true", help="times of steps alone")
    parser.add_argument("--pairs", type=int, default=20, help="pairs of steps that are timed")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        if options.step:
            rows = step_times(options.recipe, options.pairs)
            for row in rows:
                print(f"{row.name}: {row.value:.2f} ({row.low:.2f} - {row.high:.2f}), goal {row.goal or 'none'}")
            written = [asdict(row) for row in rows]
        else:
            learned = []
            for curve in measure(options.recipe, options.seeds, options.seconds):
                learned.append(curve)
                last = curve.points[-1]
                print(f"{curve.arm}, seed {curve.seed}: {last.step} steps, {next(iter(last.tasks.values())).main:.3f}")
            print(table(learned))
            written = [asdict(curve) for curve in learned]
    except UserError as error:
        parser.error(str(error))
    if options.json:
        options.json.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
