"""RECIPE -> RUN: everything that a training run needs, made and joined."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from uniperceiver.config import BalanceConfig, Recipe
from uniperceiver.data.tasks import TaskData, open_tasks
from uniperceiver.data.vocabulary import proposal, text_encoder
from uniperceiver.devices import device_of
from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture, notes_on
from uniperceiver.model.build import build
from uniperceiver.model.model import Generalist
from uniperceiver.moe.balance import LOSSES
from uniperceiver.moe.layer import ExpertFeedForward, ExpertLinear
from uniperceiver.moe.segment_router import SegmentRouter
from uniperceiver.moe.token_router import TokenRouter
from uniperceiver.optimisation.balance.method import Method
from uniperceiver.optimisation.balance.methods import check_balance
from uniperceiver.runs.architecture import architecture
from uniperceiver.runs.checks import check_experts
from uniperceiver.runs.folder import check_same_run, save_recipe
from uniperceiver.runs.initial_weights import base_to_keep, begin, fitted, read_start
from uniperceiver.runs.interference_callback import InterferenceCallback, interference_callback
from uniperceiver.runs.mixture import method_of, mixture_of
from uniperceiver.runs.tuning import check_tuning, freeze, parts, trains_gates
from uniperceiver.runs.validation import evaluation_settings, validate
from uniperceiver.serving import saved as saved_files
from uniperceiver.serving.saved import KnownTask, SavedModel
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.task import TEMPERATURES
from uniperceiver.tokenizers import bpe
from uniperceiver.training.log import RunLog
from uniperceiver.training.loop import Callbacks, Run
from uniperceiver.training.objective import TaskObjective, TrainingObjective
from uniperceiver.training.step import TrainState
from uniperceiver.training.stop import StopRequest

_SCALE = 2.0**13  # of float16 gradients at the start, as the original release
_GRAPHS = 64  # of a compiled block
_AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def prepare_run(
    recipe: Recipe, base: Path, folder: Path, *, tasks: list[TaskData] | None = None, quiet: bool = False
) -> Run:
    """Everything of a run, ready to be trained in `folder`; goes on where a run in that folder stopped.

    Args:
        tasks: tasks and sources made by a program, instead of those that the recipe names.

    Raises:
        UserError: something in the recipe cannot be had, or the folder holds a run of another recipe.
    """
    check_same_run(recipe, folder)
    tasks = open_tasks(recipe, base) if tasks is None else tasks
    _check(recipe, tasks)
    tasks = parts(recipe, tasks)
    start = read_start(recipe, base, folder)
    codec = _codec_of_run(recipe, tasks, base, folder, start)
    wanted = architecture(
        recipe.model, recipe.moe, tasks=len(tasks), vocabulary=codec.size, end=codec.end, answer=codec.answer
    )
    arch = fitted(recipe, tasks, wanted, start, folder)
    check_sizes(recipe, tasks, arch)
    model = _first_model(recipe, arch, start)
    save_recipe(recipe, base, folder)
    known = {data.task.name: KnownTask(task=data.task, index=data.index, view=data.view) for data in tasks}
    saved = SavedModel(model=model, arch=arch, codec=codec, tasks=known, base=base_to_keep(recipe, base, folder, start))
    mixture, objective = mixture_of(recipe, tasks, codec), objective_of(recipe, tasks, saved)
    return Run(
        folder=folder,
        recipe=recipe,
        mixture=mixture,
        objective=objective,
        state=_fresh_state(recipe, model, method_of(recipe, tasks, mixture)),
        callbacks=_callbacks(recipe, tasks, saved, folder, interference_callback(recipe, model, mixture, objective)),
        notes=tuple(notes_on(arch)),
        watched_k=arch.moe.k if arch.moe is not None and trains_gates(recipe) else None,
        tokenizer=codec.fingerprint(),
        quiet=quiet,
    )


def _check(recipe: Recipe, tasks: list[TaskData]) -> None:
    """What can be said before any model is read or made.

    Raises:
        UserError: nothing to train on, or experts, a tuning or a balancing method that cannot be.
    """
    without = [data.task.name for data in tasks if "train" not in data.sources]
    if without:
        raise UserError(f"tasks.{without[0]}: key 'train' is missing; training needs samples")
    check_experts(recipe, [data.task for data in tasks])
    check_tuning(recipe, tasks)
    check_balance(recipe, len(tasks))


def _first_model(recipe: Recipe, arch: Architecture, start: SavedModel | None) -> Generalist:
    """The model before the first step, freshly drawn or with the weights of its start."""
    model = build(arch, TEMPERATURES, torch_stream(recipe.seed, "weights"))
    begin(model, recipe, arch, start)
    freeze(recipe, model)
    return model.to(device_of(recipe.device))


def _codec_of_run(
    recipe: Recipe, tasks: list[TaskData], base: Path, folder: Path, start: SavedModel | None
) -> bpe.TextEncoder:
    """The text encoder that the run began with, or else its start's or a new one, which is saved in its folder."""
    path = folder / "tokenizer.json"
    # Without a recipe beside it, it is left from a start that was refused: for other texts or another size, perhaps.
    if path.is_file() and (folder / "recipe.yaml").is_file():
        return bpe.load(path)
    codec = text_encoder(recipe, tasks, base) if start is None else start.codec
    try:
        folder.mkdir(parents=True, exist_ok=True)
        codec.save(path)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); use another --out") from None
    return codec


def _fresh_state(recipe: Recipe, model: Generalist, method: Method) -> TrainState:
    """The state before the first step."""
    config = recipe.optimiser
    model.encoder.recompute = config.recompute
    if config.compile:
        _compile(model)
    average = {name: each.detach().clone() for name, each in model.named_parameters()} if config.ema else None
    device = next(model.parameters()).device
    scaler = torch.amp.GradScaler(device.type, init_scale=_SCALE) if config.precision == "float16" else None
    optimiser = method.optimiser(model, config)
    return TrainState(model=model, optimiser=optimiser, average=average, scaler=scaler, method=method)


def _compile(model: Generalist) -> None:
    """torch.compile the encoder's blocks, but for routing and experts, whose sizes are other numbers in every step."""
    for module in model.encoder.modules():
        if isinstance(module, SegmentRouter | TokenRouter | ExpertLinear | ExpertFeedForward):
            module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign]
    # One graph for each combination of mask, summary and DropPath, of which torch's eight are too few for a mixture.
    enough_graphs = torch._dynamo.config.patch(recompile_limit=max(torch._dynamo.config.recompile_limit, _GRAPHS))
    for block in model.encoder.blocks:
        block.compile(dynamic=True)
        block._compiled_call_impl = enough_graphs(block._compiled_call_impl)


def _callbacks(
    recipe: Recipe, tasks: list[TaskData], saved: SavedModel, folder: Path, watch: InterferenceCallback | None
) -> Callbacks:
    """What the run does beside training: it measures its validation splits, and writes its `model` folder."""
    settings = evaluation_settings(recipe, saved.codec, device_of(recipe.device))
    settings = dataclasses.replace(settings, limit=recipe.evaluation.limit)

    def export(state: TrainState) -> None:
        line = f"{state.step} steps on {', '.join(saved.tasks)} (seed {recipe.seed})"
        line += "" if recipe.model.start is None else f", begun with {recipe.model.start}"
        saved_files.save(folder / "model", dataclasses.replace(saved, trained=line), state.average)

    def evaluate(state: TrainState, stop: StopRequest, log: RunLog) -> tuple[float, Mapping[str, Any]]:
        return validate(state, tasks, settings, stop, log)

    return Callbacks(evaluate=evaluate, export=export, watch=watch)


def check_sizes(recipe: Recipe, tasks: list[TaskData], arch: Architecture) -> None:
    """Pictures must be whole patches, and texts must have positions.

    Raises:
        UserError: they have not.
    """
    for data in tasks:
        where, config = f"tasks.{data.task.name}", data.config
        for key, size in (("size", config.size), ("late.size", config.late.size or config.size)):
            if data.task.visual and size % arch.patch:
                raise UserError(f"{where}.{key}: {size} is not a multiple of the patch side {arch.patch}")
        if config.length > arch.max_text:
            raise UserError(f"{where}.length: {config.length} is more than model.max_text {arch.max_text}")
    if recipe.evaluation.max_words > arch.max_text:
        raise UserError(
            f"evaluation.max_words: {recipe.evaluation.max_words} is more than model.max_text {arch.max_text}"
        )


def objective_of(recipe: Recipe, tasks: list[TaskData], saved: SavedModel) -> TrainingObjective:
    """The loss of the recipe's tasks, around the saved model itself."""
    return TrainingObjective(
        saved.model,
        tasks=tuple(
            TaskObjective(
                task=data.task,
                index=data.index,
                loss_weight=data.config.loss_weight,
                label_smoothing=data.config.label_smoothing,
            )
            for data in tasks
        ),
        codec=saved.codec,
        seed=recipe.seed,
        device=device_of(recipe.device),
        autocast=_AUTOCAST[recipe.optimiser.precision],
        sample=min(recipe.candidates.sample, saved.codec.size),
        proposal_V=proposal(saved.codec, tasks) if recipe.candidates.sample else torch.ones(0),
        accuracy_in_loss=saved.arch.accuracy_in_loss,
        balance=_coefficients(recipe.moe.balance) if trains_gates(recipe) else {},
        least_experts=recipe.moe.balance.least_experts,
    )


def _coefficients(balance: BalanceConfig) -> dict[str, float]:
    return {name: getattr(balance, name) for name in (*LOSSES, "global_entropy")}
