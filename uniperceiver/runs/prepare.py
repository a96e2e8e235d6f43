"""RECIPE -> RUN: everything that a training run needs, made and joined."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from uniperceiver.config import Recipe
from uniperceiver.data.lengths import cut_notes
from uniperceiver.data.mix import Mixture
from uniperceiver.data.tasks import (
    TaskData,
    alike_notes,
    crowded_notes,
    lacking_notes,
    open_tasks,
    repeated_notes,
    source_notes,
)
from uniperceiver.data.vocabulary import text_encoder
from uniperceiver.devices import device_of, refuse_other_defaults
from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture, notes_on
from uniperceiver.model.build import build
from uniperceiver.model.model import Generalist
from uniperceiver.own_code import OwnCode, import_code, joined
from uniperceiver.parallel.world import World
from uniperceiver.runs.architecture import architecture, moe_of
from uniperceiver.runs.checks.recipe import check_processes, check_recipe
from uniperceiver.runs.checks.sizes import check_sizes
from uniperceiver.runs.folder import check_same_run, save_recipe
from uniperceiver.runs.hearing.statistics import heard_alike, measured
from uniperceiver.runs.hearing.widening import added_note
from uniperceiver.runs.initial_weights import (
    architecture_of_run,
    base_to_keep,
    begin_equal,
    code_of_start,
    load_backbone,
    load_start,
    queries_note,
    read_start,
)
from uniperceiver.runs.interference.callback import InterferenceCallback, interference_callback
from uniperceiver.runs.training import idle_note, method_of, mixture_of, objective_of, state_of
from uniperceiver.runs.tuning import freeze, trains_gates, with_fraction
from uniperceiver.runs.validation import evaluation_settings, validate
from uniperceiver.serving import saved as saved_files
from uniperceiver.serving.saved import KnownTask, SavedModel
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.task import temperatures_of
from uniperceiver.tokenizers import bpe
from uniperceiver.training.checkpoint import list_checkpoints
from uniperceiver.training.log import RunLog, Tracker
from uniperceiver.training.loop import Callbacks, Run
from uniperceiver.training.processes.sharded import ShardedTraining, shard_size
from uniperceiver.training.step import TrainState
from uniperceiver.training.stop import StopRequest
from uniperceiver.waiting import announced

_TOKENIZER = "tokenizer.json"


def prepare_run(
    recipe: Recipe,
    base: Path,
    folder: Path,
    *,
    tasks: list[TaskData] | None = None,
    trackers: Sequence[Tracker] = (),
    quiet: bool = False,
    world: World | None = None,
) -> Run:
    """Make everything of a run, ready to be trained in `folder`; goes on where a run in that folder stopped.

    `uniperceiver.train` is this, then `Run.train`, evaluation and report. Nothing is written before `Run.train`.

    Args:
        tasks: tasks and sources made by a program, instead of those that the recipe names.
        trackers: objects of a program that are told every line of the log.
        world: the processes that train together, each of which calls this; None: this one alone.

    Raises:
        UserError: something in the recipe cannot be had, or the folder holds a run of another recipe or other files.
    """
    world = world or World()
    quiet = quiet or not world.is_first
    refuse_other_defaults()
    with world.together(UserError):
        if world.is_first:
            check_same_run(recipe, folder)
        check_processes(recipe, world.size)
        shard_size(recipe, world.size)
    with world.together(UserError):
        code = import_code(recipe.imports, base)
        tasks = _opened(recipe, base, tasks, quiet)
        with announced("reading the model to begin with", quiet=quiet):
            start = read_start(recipe, base, folder)
    with announced("making the vocabulary from the texts of the data", quiet=quiet):
        codec = _codec_of_run(recipe, tasks, base, folder, start, world)
    with world.together(UserError):
        return _made(recipe, base, folder, tasks, start, codec, code, trackers, quiet, world)


def _made(
    recipe: Recipe,
    base: Path,
    folder: Path,
    tasks: list[TaskData],
    start: SavedModel | None,
    codec: bpe.TextEncoder,
    code: tuple[OwnCode, ...],
    trackers: Sequence[Tracker],
    quiet: bool,
    world: World,
) -> Run:
    """Join the model, its training and what happens beside it to a run."""
    arch = architecture_of_run(recipe, tasks, asked_architecture(recipe, tasks, codec), start, folder)
    check_sizes(recipe, tasks, arch)
    with announced("measuring the sounds", quiet=quiet or arch.sound is None):
        arch = measured(arch, tasks, recipe.seed, folder)
    tasks = heard_alike(tasks, arch)
    with announced("making the model", quiet=quiet):
        model = _first_model(recipe, arch, start, folder)
    trained = [KnownTask(task=data.task, index=data.index, preprocess=data.preprocess) for data in tasks]
    beside, code = base_to_keep(recipe, base, folder, start), joined(code, code_of_start(recipe, folder, start))
    saved = SavedModel(
        model=model, arch=arch, codec=codec, tasks={task.task.name: task for task in trained}, base=beside, code=code
    )
    mixture, objective = mixture_of(recipe, tasks, codec, model.tokenizer), objective_of(recipe, tasks, saved)
    shard = shard_size(recipe, world.size)
    sharded = ShardedTraining(objective, world, size=shard) if shard > 1 else None  # before anything holds the weights
    return Run(
        folder=folder,
        recipe=recipe,
        mixture=mixture,
        objective=objective,
        state=state_of(recipe, model, method_of(recipe, tasks, mixture)),
        callbacks=_callbacks(
            recipe, tasks, saved, base, folder, interference_callback(recipe, model, mixture, objective), world
        ),
        notes=(
            *queries_note(recipe, arch, start),
            *added_note(recipe, arch, start),
            *_notes(recipe, tasks, codec, arch, mixture, world),
        )
        if world.is_first
        else (),
        watched_k=arch.moe.k if arch.moe is not None and trains_gates(recipe) else None,
        tokenizer=codec.fingerprint(),
        tasks=tuple(tasks),
        trackers=trackers,
        code={file.name: file.sha256 for file in code},
        quiet=quiet,
        computes_in=objective.computes_in,
        world=world,
        sharded=sharded,
    )


def _opened(recipe: Recipe, base: Path, tasks: list[TaskData] | None, quiet: bool) -> list[TaskData]:
    """The tasks with the data that are trained on, after what can be refused by now was refused."""
    with announced("opening the data", quiet=quiet):
        tasks = open_tasks(recipe, base) if tasks is None else tasks
    check_recipe(recipe, tasks, moe_of(recipe.model, recipe.moe, len(recipe.tasks)))
    return with_fraction(recipe, tasks)


def asked_architecture(recipe: Recipe, tasks: list[TaskData], codec: bpe.TextEncoder) -> Architecture:
    """The architecture that the recipe asks for."""
    return architecture(
        recipe.model,
        recipe.moe,
        tasks=len(tasks),
        vocabulary=codec.size,
        end=codec.end,
        answer=codec.answer,
        modalities=[modality for data in tasks for modality in data.task.modalities],
        masks=any(data.task.masks for data in tasks),
        name_bias=any(data.task.class_term == "sigmoid" for data in tasks),
        pixels=max((data.preprocess.size for data in tasks if data.task.visual), default=0),
    )


def _notes(
    recipe: Recipe, tasks: list[TaskData], codec: bpe.TextEncoder, arch: Architecture, mixture: Mixture, world: World
) -> Iterator[str]:
    """What is said before training: of the model, of texts left out or cut, of classes that no answer tells apart."""
    yield from notes_on(arch)
    if mixture.batches_per_step % world.size:
        yield idle_note(mixture, world.size)
    warmup, steps = recipe.optimiser.warmup, recipe.steps
    if warmup > steps:
        yield (
            f"optimiser.warmup {warmup} is longer than training: after {steps} steps the learning rate is only "
            f"{steps / warmup:.0%} of optimiser.lr; set optimiser.warmup to a tenth of the steps, say"
        )
    yield from source_notes(tasks)
    yield from (note for data in tasks for note in (*repeated_notes(data), *lacking_notes(data)))
    if arch.regions is not None:
        yield from (note for data in tasks for note in crowded_notes(data, arch.regions.queries))
    yield from cut_notes(tasks, codec)
    # A class that has parameters of its own may share its text.
    if not (recipe.tune.head or recipe.tune.labels):
        for data in tasks:
            yield from alike_notes(data, lambda text: tuple(codec.encode(text)))


def _first_model(recipe: Recipe, arch: Architecture, start: SavedModel | None, folder: Path) -> Generalist:
    """The model before the first step, freshly drawn or with the weights of its start."""
    model = build(arch, temperatures_of(arch.tokenizers), torch_stream(recipe.seed, "weights"))
    if start is None and not list_checkpoints(folder / "checkpoints"):
        load_backbone(model, recipe)
    begin_equal(model, recipe, arch)
    load_start(model, recipe, arch, start)
    freeze(recipe, model)
    return model.to(device_of(recipe.device))


def _codec_of_run(
    recipe: Recipe, tasks: list[TaskData], base: Path, folder: Path, start: SavedModel | None, world: World
) -> bpe.TextEncoder:
    """The text encoder that the run began with, or else its start's or a new one."""
    codec = None if start is None else start.codec
    with world.together(UserError):
        if (folder / _TOKENIZER).is_file():
            codec = bpe.load(folder / _TOKENIZER)
        elif codec is None and world.is_first:
            codec = text_encoder(recipe, tasks, base)
    if world.size > 1:
        content = world.from_first(lambda: "" if codec is None else codec.content)
        codec = bpe.loads(content) if codec is None else codec
    assert codec is not None
    return codec


def _callbacks(
    recipe: Recipe,
    tasks: list[TaskData],
    saved: SavedModel,
    base: Path,
    folder: Path,
    watch: InterferenceCallback | None,
    world: World,
) -> Callbacks:
    """What the run does beside training: it writes what it is, measures its validation splits, saves its model."""
    settings = evaluation_settings(recipe, saved.codec, device_of(recipe.device))
    settings = dataclasses.replace(settings, limit=recipe.evaluation.limit, world=world)

    def begin() -> None:
        # The recipe first: it is the mark by which the folder is known for a run.
        save_recipe(recipe, base, folder)
        if not (folder / _TOKENIZER).is_file():
            saved.codec.save(folder / _TOKENIZER)

    def export(state: TrainState) -> None:
        line = f"{state.step} steps on {', '.join(saved.tasks)} (seed {recipe.seed})"
        if recipe.model.start is not None:
            step = recipe.model.start_step
            line += f", begun with {recipe.model.start}{'' if step is None else f' (step {step})'}"
        saved_files.save(folder / "model", dataclasses.replace(saved, model=state.model, trained=line), state.average)

    def evaluate(state: TrainState, stop: StopRequest, log: RunLog) -> tuple[float, Mapping[str, Any]]:
        return validate(state, tasks, settings, stop, log, recipe.checkpoint.best)

    return Callbacks(evaluate=evaluate, export=export, begin=begin, gradients=watch)
