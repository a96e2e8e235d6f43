"""What is wrong with a recipe, said before any data are decoded and any weight is trained."""

import dataclasses
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.util import find_spec

from uniperceiver.config import ModelConfig, MoEConfig, OptimiserConfig, Recipe, TuneConfig
from uniperceiver.data.media.clips import refuse_without_av
from uniperceiver.data.tasks import TaskData
from uniperceiver.errors import BrokenSample, UserError, nearest
from uniperceiver.evaluation.evaluate import metric_names
from uniperceiver.model.sizes import size_of
from uniperceiver.moe.settings import MoE
from uniperceiver.optimisation.balance.method import Method
from uniperceiver.optimisation.balance.methods import METHODS
from uniperceiver.runs.checks.experts import check_causal
from uniperceiver.runs.checks.turns import check_turns
from uniperceiver.tasks.task import Task
from uniperceiver.training.log import NO_TENSORBOARD, TRACKERS

_OF_TRAINING = ("start", "start_step", "drop_path", "frame_offset")  # keys of `model` that are no part of a model
_OF_PROMPTS = ("vectors", "shared", "head", "labels")  # keys of `tune` that only prompts have


def check_recipe(recipe: Recipe, tasks: Sequence[TaskData], moe: MoE | None) -> None:
    """Refuse what can be refused before any model is read or made.

    Args:
        moe: the experts that the recipe asks for.

    Raises:
        UserError: nothing to train on, or a size, experts, a tuning or a balancing method that cannot be.
    """
    if recipe.log.tensorboard is True and find_spec("tensorboard") is None:
        raise UserError(NO_TENSORBOARD)
    for name in recipe.log.trackers:
        if name not in TRACKERS:
            raise UserError(f"log.trackers: no tracker {name!r}; {nearest(name, TRACKERS)}")
    check_best(recipe, [data.task for data in tasks])
    size_of(recipe.model.size)
    without = next((data.task.name for data in tasks if "train" not in data.sources), None)
    if without is not None:
        raise UserError(f"tasks.{without}: key 'train' is missing; training needs samples")
    for data in tasks:
        if recipe.tune.method is None:  # a model that is tuned keeps what it reads pictures as
            _check_regions(data, recipe.model)
        _check_learnable(data)
        _check_decoder(data)
    if moe is not None:
        check_causal(moe, [data.task for data in tasks])
    _check_shared(recipe, tasks)
    _check_tuning(recipe, tasks)
    check_balance(recipe, len(tasks))
    check_turns(recipe, tasks)


def check_processes(recipe: Recipe, processes: int) -> None:
    """Refuse what several processes cannot do together.

    Raises:
        UserError: a step has too few batches for them, or a key that is for one process.
    """
    if processes == 1:
        return
    sampling, batches = recipe.sampling, recipe.sampling.tasks_per_step * recipe.optimiser.accumulate
    batches *= recipe.balance.window
    if batches < processes:
        more = -(-processes * sampling.tasks_per_step // batches)
        raise UserError(
            f"a step has {batches} {'batches' if batches > 1 else 'batch'} for {processes} processes; set "
            f"sampling.tasks_per_step={more} or more, or use fewer processes"
        )
    if recipe.interference.watch:
        raise UserError(
            "interference.watch: is for one process; remove the key, and measure afterwards: uniperceiver interference "
            "RUN"
        )
    if recipe.device.partition(":")[2]:
        raise UserError(f"device={recipe.device}: each of several processes has a device of its own; set device=auto")


def _check_shared(recipe: Recipe, tasks: Iterable[TaskData]) -> None:
    """Refuse candidates of a step where a batch must have its own.

    Raises:
        UserError: the key is said.
    """
    shares = {f"tasks.{data.task.name}.negatives": data for data in tasks if data.config.negatives == "step"}
    for key, data in shares.items():
        if not data.task.answer.among_batch:
            raise UserError(f"{key}: only a task whose candidates are the texts of its batch has it; remove the key")
    keys = [*shares, *(["candidates.share"] if recipe.candidates.share == "step" else [])]
    for key in keys[:1]:
        together = {"moe.capacity": recipe.moe.capacity is not None, "moe.group=batch": recipe.moe.group == "batch"}
        for name in (name for name, is_set in together.items() if is_set):
            raise UserError(f"{name}: depends on what is encoded together; remove it, or {key}")
        if recipe.interference.watch:
            raise UserError(f"interference.watch: needs the gradients of single batches; remove it, or {key}")
        if recipe.balance.method in METHODS and METHODS[recipe.balance.method].needs_losses:
            name = f"balance.method={recipe.balance.method}"
            raise UserError(
                f"{name}: needs the losses of single batches before their gradients; change it, or remove {key}"
            )


def check_best(recipe: Recipe, tasks: Iterable[Task]) -> None:
    """Refuse a checkpoint that is best by what no evaluation measures.

    Raises:
        UserError: there is no such task or metric; the nearest is offered.
    """
    if recipe.checkpoint.best == "score":
        return
    best, names = recipe.checkpoint.best, [f"{task.name}/{key}" for task in tasks for key in metric_names(task)]
    if best not in names:
        raise UserError(f"checkpoint.best: no metric {best!r}; {nearest(best, ['score', *names])}")


def _check_learnable(data: TaskData) -> None:
    """Refuse settings with which a task has a loss of 0 and nothing to learn.

    Raises:
        UserError: a text that is compared with itself alone; a single class.
    """
    where, config, answer = f"tasks.{data.task.name}", data.config, data.task.answer
    if answer.among_batch:
        nothing = "so every sample is compared with its own text alone, the loss is 0 and nothing is learnt"
        shapes = ((f"shapes[{number}].batch", shape.batch) for number, shape in enumerate(config.shapes))
        for key, batch in (("batch", config.batch), ("late.batch", config.late.batch), *shapes):
            if batch == 1:
                raise UserError(f"{where}.{key}: is 1, {nothing} (accumulate is no help); set 2 or, better, many more")
        if len(data.sources["train"]) == 1:
            raise UserError(f"{where}.train: has one sample, {nothing}; give more samples")
    if answer.has_labels and not answer.reads_objects and len(data.task.labels) == 1:
        name = data.task.labels[0][0]
        raise UserError(
            f"{where}: has one class, {name!r}, so every answer is right and nothing is learnt; add another"
        )


def _check_regions(data: TaskData, model: ModelConfig) -> None:
    """Refuse a task that reads proposals of a model that makes none, or does not read them.

    Raises:
        UserError: the key of the model is said.
    """
    if not data.task.answer.reads_objects:
        return
    name = f"task {data.task.name!r} reads proposals, which"
    if model.image != "regions":
        raise UserError(f"{name} model.image={model.image} does not make; set model.image=regions")
    if model.regions.kinds == "global":
        raise UserError(f"{name} are no tokens with model.regions.kinds=global; set both, or leave the task out")


def _check_decoder(data: TaskData) -> None:
    """Refuse encoded clips where nothing can decode them, as training would at its first batch.

    Raises:
        UserError: the package av is missing, and the first sample is such a clip.
    """
    if find_spec("av") is None:
        with suppress(BrokenSample):
            if isinstance(data.sources["train"].read(0).clip, bytes):
                refuse_without_av()


def check_balance(recipe: Recipe, tasks: int) -> None:
    """Refuse a balancing method to which the sampling does not give what it needs.

    Args:
        tasks: how many the run has.

    Raises:
        UserError: it does not, or there is no such method.
    """
    if recipe.balance.method not in METHODS:
        raise UserError(
            f"balance.method: no method {recipe.balance.method!r}; {nearest(recipe.balance.method, METHODS)}"
        )
    method, window, mixed = METHODS[recipe.balance.method], recipe.balance.window, recipe.sampling.mode == "mixed"
    name = f"balance.method={recipe.balance.method}"
    if recipe.optimiser.kind != OptimiserConfig().kind and method.optimiser is not Method.optimiser:
        raise UserError(f"{name}: has an optimiser of its own; remove optimiser.kind")
    if tasks < method.least_tasks:
        raise UserError(f"{name}: balances several tasks, the run has {tasks}; add tasks, or use balance.method=fixed")
    if mixed and window > 1:
        raise UserError(
            "balance.window: is for sampling.mode=unmixed; in mixed steps, set sampling.tasks_per_step instead"
        )
    late = next((task for task, config in recipe.tasks.items() if config.late.weight), None)
    if method.steady_shares and late is not None:
        raise UserError(f"{name}: needs the same weights in the whole run; remove tasks.{late}.late.weight")
    if method.one_at_once and mixed:
        raise UserError(f"{name}: needs steps of one task; set sampling.mode=unmixed")
    if method.one_at_once and window > 1:
        raise UserError(f"{name}: needs steps of one task; remove balance.window")
    if method.several_at_once and mixed and recipe.sampling.tasks_per_step < 2:
        raise UserError(f"{name}: needs several tasks in a step; set sampling.tasks_per_step to 2 or more")
    if method.several_at_once and not mixed and window < 2:
        raise UserError(
            f"{name}: needs several tasks at the same weights, and unmixed steps have one; set sampling.mode=mixed, "
            "or balance.window to 2 or more"
        )


def _check_tuning(recipe: Recipe, tasks: Sequence[TaskData]) -> None:
    """Refuse a tuning that cannot be.

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
    if key and [data.task.answer.has_labels for data in tasks] != [True]:
        names = ", ".join(f"{data.task.name} ({data.config.kind})" for data in tasks)
        raise UserError(f"tune.{key}: is for one task with classes; remove the key, or leave that one alone of {names}")
    if key and tasks[0].task.class_term == "background":
        raise UserError(
            f"tune.{key}: has a part for each class, and the background of class_term=background is none; remove "
            "one of the two keys"
        )


def _refuse_other_model(recipe: Recipe) -> None:
    """Refuse keys that describe a model: a tuned model is what its start is."""
    default, config = ModelConfig(), recipe.model
    for field in dataclasses.fields(ModelConfig):
        if field.name not in _OF_TRAINING and getattr(config, field.name) != getattr(default, field.name):
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
