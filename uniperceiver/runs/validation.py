"""How the splits of a run are measured, during training and after it."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from uniperceiver.config import Recipe
from uniperceiver.data.tasks import TaskData
from uniperceiver.errors import UserError
from uniperceiver.evaluation.answers.kind import Metrics
from uniperceiver.evaluation.evaluate import evaluate, main_metric, score, score_by
from uniperceiver.evaluation.split import Settings, Split
from uniperceiver.model.model import Generalist
from uniperceiver.records import Broken
from uniperceiver.tokenizers import bpe
from uniperceiver.training.faults import name_broken
from uniperceiver.training.log import RunLog
from uniperceiver.training.step import TrainState
from uniperceiver.training.stop import Stopped, StopRequest


def evaluation_settings(recipe: Recipe, codec: bpe.TextEncoder, device: torch.device) -> Settings:
    """How the recipe wants its splits evaluated: whole, in float32."""
    return Settings(
        codec=codec,
        device=device,
        batch=recipe.evaluation.batch,
        workers=recipe.data.workers,
        clips=recipe.evaluation.clips,
        beams=recipe.evaluation.beam,
        max_words=recipe.evaluation.max_words,
        max_broken=recipe.data.max_broken,
    )


def splits_of(data: TaskData, names: tuple[str, ...]) -> list[Split]:
    """The task's splits of those names that have data."""
    training = data.sources.get("train") or next(iter(data.sources.values()))
    return [
        Split(
            task=data.task,
            index=data.index,
            name=name,
            source=data.sources[name],
            preprocess=data.preprocess,
            training_texts=training.texts,
            training=training,
        )
        for name in names
        if name in data.sources
    ]


def validate(
    state: TrainState, tasks: list[TaskData], settings: Settings, stop: StopRequest, log: RunLog, best: str = "score"
) -> tuple[float, Mapping[str, Any]]:
    """Measure the validation (else training) splits, with the averaged weights if there are any.

    Args:
        best: what checkpoints are compared by, as `checkpoint.best` says it.

    Returns:
        What checkpoints are compared by, lower is better; and the score with the main figures of all tasks.
    """
    results: dict[str, Metrics] = {}
    values: dict[str, float] = {}
    world = settings.world
    settings = dataclasses.replace(settings, ends=(Stopped, UserError))
    # Of several processes none may leave alone, wherever it is: they look between batches, and go together.
    with averaged_weights(state), stop.waiting() if world.size == 1 else nullcontext():
        for data in tasks:
            split = splits_of(data, ("val", "train"))[0]  # never test: the best checkpoint is chosen by these figures
            name = f"{data.task.name}/{split.name}"

            def on_batch(done: int, total: int, name: str = name) -> None:
                stop.check_with(world)
                log.progress(state.step, f"{done}/{total}", stage=f"evaluating {name}")

            def on_broken(broken: Broken, name: str = name) -> None:
                name_broken(dataclasses.replace(broken, task=name), state.step, state, log)

            split_settings = dataclasses.replace(settings, on_batch=on_batch, on_broken=on_broken)
            metrics = evaluate(state.model, split, split_settings)
            results[data.task.name] = metrics
            main = main_metric(data.task)
            values |= {f"{name}/{key}": metrics[key] for key in (main, "chance", "loss")}
            log.say(
                f"  {name}: {main} {metrics[main]:.3f} (chance {metrics['chance']:.3f}), loss {metrics['loss']:.3f}"
            )
    log.progress(state.step, "", stage="training")
    shown = world.from_first(lambda: {"score": score(results), **values})
    return world.from_first(lambda: score_by(results, best)), shown


@contextmanager
def averaged_weights(state: TrainState) -> Iterator[None]:
    """The model with its moving average as weights, where there is one; its own come back afterwards."""
    if state.average is None:
        yield
        return
    own = {name: parameter.detach().clone() for name, parameter in state.model.named_parameters()}
    try:
        _assign(state.model, state.average)
        yield
    finally:
        _assign(state.model, own)


@torch.no_grad()
def _assign(model: Generalist, weights: Mapping[str, torch.Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(weights[name])
    model.weights_changed()
