"""A FINISHED MODEL -> THE MODEL TO TUNE: what is added to it, and which of its parameters are trained."""

import dataclasses
from collections.abc import Sequence

from uniperceiver.config import ModelConfig, MoEConfig, Recipe, TuneConfig
from uniperceiver.data.formats.subset import random_part
from uniperceiver.data.tasks import TaskData
from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture, PromptShape
from uniperceiver.model.model import Generalist
from uniperceiver.model.prompts import is_tuned
from uniperceiver.moe.conditions import OfValues, condition_of
from uniperceiver.runs.checks import check_causal
from uniperceiver.serving.saved import SavedModel

_OF_TRAINING = ("start", "drop_path", "frame_offset")  # keys of `model` that are no part of a model
_OF_PROMPTS = ("vectors", "shared", "head", "labels")


def check_tuning(recipe: Recipe, tasks: Sequence[TaskData]) -> None:
    """Whether the recipe asks for a tuning that can be.

    Raises:
        UserError: no model to tune; keys of another model, or of prompts without prompts; a head for several tasks.
    """
    tune = recipe.tune
    if tune.method is None:
        if tune != TuneConfig(fraction=tune.fraction):
            raise UserError("tune: has no effect without tune.method; add full or prompt")
        return
    if recipe.model.start is None:
        raise UserError(f"tune.method={tune.method}: needs model.start, the model to tune")
    _refuse_other_model(recipe)
    if tune.method == "full":
        other = next((key for key in _OF_PROMPTS if getattr(tune, key) != getattr(TuneConfig(), key)), None)
        if other is not None:
            raise UserError(f"tune.{other}: only with tune.method=prompt; remove the key, or tune prompts")
        return
    key = "head" if tune.head else "labels" if tune.labels else None
    if key and [data.task.candidates for data in tasks] != ["labels"]:
        found = ", ".join(f"{data.task.name} ({data.config.kind})" for data in tasks)
        raise UserError(f"tune.{key}: is for one task with classes; remove the key, or leave that one alone of {found}")


def parts(recipe: Recipe, tasks: Sequence[TaskData]) -> list[TaskData]:
    """The tasks with the share of their training sets that the recipe asks for.

    Raises:
        UserError: no sample is left of a training set.
    """
    share = recipe.tune.fraction
    found = []
    for data in tasks:
        sources = dict(data.sources)
        if "train" in sources:
            where = f"tasks.{data.task.name}.train: tune.fraction"
            sources["train"] = random_part(sources["train"], 0.0, share, recipe.seed, where)
        found.append(dataclasses.replace(data, sources=sources))
    return found


def tuned_architecture(recipe: Recipe, tasks: Sequence[TaskData], start: SavedModel) -> Architecture:
    """The architecture of the start, with the prompts that the recipe asks for.

    Raises:
        UserError: the start is merged, has other prompts already, chose its experts by task, or cannot be balanced.
    """
    where = f"model.start {recipe.model.start}"
    if start.arch.merged is not None:
        raise UserError(f"{where}: is merged, its experts are gone; tune the model that it was merged from")
    names = [data.task.name for data in tasks]
    if start.arch.needs_task and list(start.tasks) != names:
        raise UserError(
            f"{where}: its experts were chosen by task, for {', '.join(start.tasks)}, and a new task has none; tune "
            f"just these, in this order, found {', '.join(names)}"
        )
    _refuse_balance(recipe, start, where)
    if start.arch.moe is not None:
        check_causal(start.arch.moe, [data.task for data in tasks])
    arch = dataclasses.replace(start.arch, drop_path=recipe.model.drop_path, frame_offset=recipe.model.frame_offset)
    if recipe.tune.method == "full":
        return arch
    shape = _shape(recipe.tune, tasks)
    if start.arch.prompts not in (None, shape):
        raise UserError(
            f"{where}: has prompts of its own, other than those asked for; tune the model that it was made from, or "
            "all its weights with tune.method=full"
        )
    return dataclasses.replace(arch, prompts=shape)


def freeze(recipe: Recipe, model: Generalist) -> None:
    """Leave only those parameters trainable that the method tunes."""
    if recipe.tune.method == "prompt":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(is_tuned(name))


def trains_gates(recipe: Recipe) -> bool:
    """Whether training may change what experts tokens go to by anything but their inputs."""
    return recipe.tune.method != "prompt"


def _shape(tune: TuneConfig, tasks: Sequence[TaskData]) -> PromptShape:
    classes = len(tasks[0].task.labels)
    return PromptShape(
        vectors=tune.vectors,
        candidates=0 if tune.shared else tune.vectors,
        classes=classes if tune.head else 0,
        labels=classes if tune.labels else 0,
    )


def _refuse_other_model(recipe: Recipe) -> None:
    """Refuse keys that describe a model: a tuned model is what its start is."""
    usual, found = ModelConfig(), recipe.model
    for field in dataclasses.fields(ModelConfig):
        if field.name not in _OF_TRAINING and getattr(found, field.name) != getattr(usual, field.name):
            raise UserError(
                f"model.{field.name}: a model that is tuned keeps its own; remove the key, or tune.method to train a "
                "model of this kind"
            )
    if dataclasses.replace(recipe.moe, balance=MoEConfig().balance) != MoEConfig():
        raise UserError(
            "moe: a model that is tuned keeps its experts; remove the section (tune.method=full may have moe.balance), "
            "or remove tune.method"
        )
    if recipe.tune.method == "prompt" and recipe.moe != MoEConfig():
        raise UserError(
            "moe.balance: tuning prompts leaves the gates as they are, so there is nothing to balance; remove the key, "
            "or use tune.method=full"
        )


def _refuse_balance(recipe: Recipe, start: SavedModel, where: str) -> None:
    """Refuse balancing where there is nothing to balance."""
    balance, moe = recipe.moe.balance, start.arch.moe
    if balance == MoEConfig().balance:
        return
    if moe is None or not isinstance(condition_of(moe.condition), OfValues):
        raise UserError(
            f"moe.balance: {where} routes nothing token by token, so there is nothing to balance; remove it"
        )
    if balance.bias_rate and not moe.selection_bias:
        raise UserError(f"moe.balance.bias_rate: {where} has no biases for selection; use moe.balance.switch")
