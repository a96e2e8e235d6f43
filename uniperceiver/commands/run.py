"""RECIPE -> RUN: the place where all rooms of the house meet."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from uniperceiver.config import Recipe
from uniperceiver.data.mix import Mixture, Stage, TrainingSet, sampling_weights
from uniperceiver.data.transforms import Augment
from uniperceiver.errors import UserError
from uniperceiver.evaluation.answers import Settings, Split
from uniperceiver.evaluation.evaluate import Metrics, evaluate, main_metric, score
from uniperceiver.model.build import architecture, build
from uniperceiver.commands.recipe import TaskData, check_same_run, open_tasks, proposal, save_recipe, text_encoder
from uniperceiver.serving import saved as saved_files
from uniperceiver.serving.saved import KnownTask, SavedModel
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.task import TEMPERATURES
from uniperceiver.tokenizers import bpe
from uniperceiver.training.log import RunLog
from uniperceiver.training.loop import Callbacks, Run
from uniperceiver.training.objective import TaskObjective, TrainingObjective
from uniperceiver.training.optimiser import adamw
from uniperceiver.training.step import TrainState
from uniperceiver.training.stop import StopRequest

def device_of(name: str) -> torch.device:
    """The device of that name; "auto" is the first accelerator, or the CPU.

    Raises:
        UserError: there is no such device.
    """
    if name == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        return found if found is not None else torch.device("cpu")
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name!r}: {reason}; use device=cpu, or auto") from None


def prepare_run(recipe: Recipe, base: Path, folder: Path, *, quiet: bool = False) -> Run:
    """Everything of a run, ready to be trained in `folder`; goes on where a run in that folder stopped.

    Raises:
        UserError: something in the recipe cannot be had, or the folder holds a run of another recipe.
    """
    check_same_run(recipe, folder)
    tasks = open_tasks(recipe, base)
    without = [data.task.name for data in tasks if "train" not in data.sources]
    if without:
        raise UserError(f"tasks.{without[0]}: key 'train' is missing; training needs samples")
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = folder / "tokenizer.json"
    codec = bpe.load(tokenizer) if tokenizer.is_file() else text_encoder(recipe, tasks, base)
    if not tokenizer.is_file():
        codec.save(tokenizer)
    arch = architecture(recipe.model, vocabulary=codec.size, end=codec.end, answer=codec.answer)
    _check_sizes(tasks, arch.patch, arch.max_text)
    device = device_of(recipe.device)
    model = build(arch, TEMPERATURES, torch_stream(recipe.seed, "weights")).to(device)
    save_recipe(recipe, base, folder)
    known = {data.task.name: KnownTask(task=data.task, index=data.index, view=data.view) for data in tasks}
    average = {name: each.detach().clone() for name, each in model.named_parameters()} if recipe.optimiser.ema else None
    scaler = torch.amp.GradScaler(device.type) if recipe.optimiser.precision == "float16" else None
    state = TrainState(model=model, optimiser=adamw(model, recipe.optimiser), average=average, scaler=scaler)
    if recipe.optimiser.compile:
        for block in model.encoder.blocks:
            block.compile(dynamic=True)
    saved = SavedModel(model=model, arch=arch, codec=codec, tasks=known)
    settings = evaluation_settings(recipe, codec, device)

    def export(state: TrainState) -> None:
        line = f"{state.step} steps on {', '.join(known)} (seed {recipe.seed})"
        saved_files.save(folder / "model", dataclasses.replace(saved, trained=line), state.average)

    def measure(state: TrainState, stop: StopRequest, log: RunLog) -> tuple[float, Mapping[str, Any]]:
        return _validate(state, tasks, dataclasses.replace(settings, limit=recipe.evaluation.limit), stop, log)

    return Run(
        folder=folder,
        recipe=recipe,
        mixture=_mixture(recipe, tasks, codec),
        objective=_objective(recipe, tasks, codec, device, arch.accuracy_in_loss),
        state=state,
        callbacks=Callbacks(evaluate=measure, export=export),
        quiet=quiet,
    )


def _check_sizes(tasks: list[TaskData], patch: int, max_text: int) -> None:
    for data in tasks:
        where, config = f"tasks.{data.task.name}", data.config
        for key, size in (("size", config.size), ("late.size", config.late.size or config.size)):
            if data.task.visual and size % patch:
                raise UserError(f"{where}.{key}: {size} is not a multiple of the patch side {patch}")
        if config.length > max_text:
            raise UserError(f"{where}.length: {config.length} is more than model.max_text {max_text}")


def _mixture(recipe: Recipe, tasks: list[TaskData], codec: bpe.TextEncoder) -> Mixture:
    sizes = {data.task.name: len(data.sources["train"]) for data in tasks}
    explicit = {data.task.name: data.config.weight for data in tasks}
    weights = sampling_weights(sizes, explicit, recipe.sampling.alpha)
    return Mixture(
        sets=tuple(_training_set(data, weights[data.task.name]) for data in tasks),
        codec=codec,
        seed=recipe.seed,
        mode=recipe.sampling.mode,
        tasks_per_step=recipe.sampling.tasks_per_step,
        accumulate=recipe.optimiser.accumulate,
        late_step=round(recipe.late_from * recipe.steps),
    )


def _training_set(data: TaskData, weight: float) -> TrainingSet:
    config, late = data.config, data.config.late
    late_view = dataclasses.replace(
        data.view, size=late.size or config.size, frames=late.frames or config.frames
    )
    return TrainingSet(
        task=data.task,
        index=data.index,
        source=data.sources["train"],
        weight=weight,
        augment=Augment(**{field.name: getattr(config.augment, field.name) for field in dataclasses.fields(Augment)}),
        early=Stage(view=data.view, batch=config.batch),
        late=Stage(view=late_view, batch=late.batch or config.batch),
    )


def _objective(
    recipe: Recipe, tasks: list[TaskData], codec: bpe.TextEncoder, device: torch.device, accuracy_in_loss: bool
) -> TrainingObjective:
    return TrainingObjective(
        tasks=tuple(
            TaskObjective(
                task=data.task, loss_weight=data.config.loss_weight, label_smoothing=data.config.label_smoothing
            )
            for data in tasks
        ),
        codec=codec,
        seed=recipe.seed,
        device=device,
        autocast=_autocast(recipe),
        sample=min(recipe.candidates.sample, codec.size),
        proposal_V=proposal(codec, tasks) if recipe.candidates.sample else torch.ones(0),
        accuracy_in_loss=accuracy_in_loss,
    )


def _autocast(recipe: Recipe) -> torch.dtype | None:
    return {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[recipe.optimiser.precision]


def evaluation_settings(recipe: Recipe, codec: bpe.TextEncoder, device: torch.device) -> Settings:
    """How the recipe wants its splits evaluated: whole, in float32."""
    return Settings(
        codec=codec,
        device=device,
        batch=recipe.evaluation.batch,
        workers=recipe.data.workers,
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
            view=data.view,
            training_texts=training.texts,
        )
        for name in names
        if name in data.sources
    ]


def _validate(
    state: TrainState, tasks: list[TaskData], settings: Settings, stop: StopRequest, log: RunLog
) -> tuple[float, Mapping[str, Any]]:
    """Score and main figures of the validation (else training) splits, with the averaged weights if there are any."""
    results: dict[str, Metrics] = {}
    values: dict[str, float] = {}
    with averaged_weights(state):
        for data in tasks:
            split = (splits_of(data, ("val",)) or splits_of(data, ("test", "train")))[0]
            name = f"{data.task.name}/{split.name}"

            def on_batch(done: int, total: int, name: str = name) -> None:
                stop.check()
                log.progress(state.step, f"{done}/{total}", stage=f"evaluating {name}")

            metrics = evaluate(state.model, split, dataclasses.replace(settings, on_batch=on_batch))
            results[data.task.name] = metrics
            main = main_metric(data.task)
            values |= {f"{name}/{key}": metrics[key] for key in (main, "chance", "loss")}
            log.say(f"  {name}: {main} {metrics[main]:.3f} (chance {metrics['chance']:.3f}), loss {metrics['loss']:.3f}")
    log.progress(state.step, "", stage="training")
    return score(results), values


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
def _assign(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(weights[name])
