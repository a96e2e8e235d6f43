"""RUN -> INTERFERENCE: which task helps or hurts which, measured with gradients on a run's own data."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from uniperceiver.config import InterferenceConfig, Recipe, read_recipe
from uniperceiver.data.mix import Mixture
from uniperceiver.data.tasks import TaskData, open_tasks
from uniperceiver.devices import device_of
from uniperceiver.errors import UserError, nearest
from uniperceiver.interference.estimate import LEAST_BLOCKS, estimate
from uniperceiver.interference.finite_differences import finite_differences
from uniperceiver.interference.groups import Group
from uniperceiver.interference.products import Products, products
from uniperceiver.interference.records import Interference, as_record
from uniperceiver.interference.replays import Replays, most_batches, trained_groups
from uniperceiver.model.model import Generalist
from uniperceiver.model.weights import first_misfit
from uniperceiver.runs.checks import check_sizes
from uniperceiver.runs.evaluate import as_trained
from uniperceiver.runs.folder import saved_recipe
from uniperceiver.runs.training import mixture_of, objective_of
from uniperceiver.runs.tuning import parts
from uniperceiver.serving.predictor import UniPerceiver
from uniperceiver.training import checkpoint

_PASSES = 4  # over the batches, when intervals are wanted


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is measured."""

    parameters: str = InterferenceConfig().parameters
    batches: int | None = None  # of each task; None: 100, or as many as there are samples for
    batch: int | None = None  # samples in one; None: as in training
    tasks: tuple[str, ...] = ()  # none: all
    step: int | None = None  # of which checkpoint; None: the run's model
    split: str = "train"
    by_steps: bool = False  # by finite differences in float64, instead of by gradients
    device: str | None = None  # None: where the recipe says
    on_batch: Callable[[int, int], None] | None = None  # told how many of how many losses are computed


def interference_of_run(path: Path, question: Question, data: Path | None = None) -> Interference:
    """Interference between the tasks of a run or saved model, on each group of parameters.

    Args:
        data: a recipe whose data are used instead of the run's own; a model that is no run needs one.

    Raises:
        UserError: fewer than two tasks, no such task, split, checkpoint or parameter; a task that does not use the
            parameters; a gradient that is not finite.
    """
    model = UniPerceiver.from_pretrained(path)
    recipe, base = (read_recipe(data), data.parent) if data is not None else saved_recipe(path)
    tasks = _chosen(recipe, base, model, question)
    groups = trained_groups(model.model, question.parameters)
    step = _load_step(model.model, path, question.step)
    place = device_of(question.device or recipe.device)
    model.model.to(place, torch.float64 if question.by_steps else None)
    optimiser = dataclasses.replace(recipe.optimiser, precision="float32")  # whatever the run was trained in
    recipe = dataclasses.replace(recipe, device=str(place), optimiser=optimiser)
    mixture = _mixture(recipe, tasks, model, question.split)
    source = Replays(
        model=model.model,
        objective=objective_of(recipe, tasks, model.saved),
        mixture=mixture,
        batches=most_batches(mixture, question.batches),
        workers=recipe.data.workers,
        on_batch=question.on_batch,
    )
    names = tuple(data.task.name for data in tasks)
    found = _products(names, groups, model.model, source, question)
    estimates = {group: estimate(each, recipe.seed) for group, each in found.items()}
    return as_record(estimates, step=step, tasks=names, parameters=question.parameters, batches=source.batches)


def _products(
    names: tuple[str, ...], groups: Sequence[Group], model: Generalist, source: Replays, question: Question
) -> Mapping[Group, Products]:
    parameters = dict(model.named_parameters())
    count = len(names) * source.batches
    if question.by_steps:
        source.expect(len(groups) * (2 + count) * count)
        return finite_differences(names, groups, parameters, source)
    both_sides = source.batches >= LEAST_BLOCKS
    source.expect((_PASSES if both_sides else _PASSES // 2) * count)
    return products(names, groups, parameters, source, both_sides=both_sides)


def _chosen(recipe: Recipe, base: Path, model: UniPerceiver, question: Question) -> list[TaskData]:
    """The tasks that are compared, as the model knows them."""
    for name in question.tasks:
        if name not in recipe.tasks:
            raise UserError(f"--task: no task {name!r}; {nearest(name, recipe.tasks)}")
    opened = [as_trained(data, model) for data in parts(recipe, open_tasks(recipe, base))]
    tasks = [data for data in opened if not question.tasks or data.task.name in question.tasks]
    if len(tasks) < 2:
        raise UserError("interference is between tasks: at least two are needed; name another one with --task")
    if question.batches is not None and question.batches < 2:
        raise UserError("--batches: at least 2 are needed, as no batch is compared with itself")
    for data in tasks:
        if question.split not in data.sources:
            there = ", ".join(data.sources)
            raise UserError(f"tasks.{data.task.name}: has no split {question.split!r}; --split can be one of {there}")
    check_sizes(recipe, tasks, model.saved.arch)
    return tasks if question.batch is None else [_resized(data, question.batch) for data in tasks]


def _resized(data: TaskData, batch: int) -> TaskData:
    late = dataclasses.replace(data.config.late, batch=batch)
    return dataclasses.replace(data, config=dataclasses.replace(data.config, late=late))


def _mixture(recipe: Recipe, tasks: list[TaskData], model: UniPerceiver, split: str) -> Mixture:
    """The chosen tasks' samples of that split."""
    known = [
        dataclasses.replace(data, index=0 if data.index is None else data.index, sources={"train": data.sources[split]})
        for data in tasks
    ]
    return mixture_of(recipe, known, model.codec)


def _load_step(model: Generalist, path: Path, step: int | None) -> int:
    """Weights of a checkpoint, if one is asked for; how many steps the weights were trained."""
    root = path / "checkpoints"
    there = checkpoint.list_checkpoints(root) if root.is_dir() else []
    if step is None:
        return max(map(checkpoint.step_of, there), default=0)
    if step not in map(checkpoint.step_of, there):
        steps = ", ".join(str(checkpoint.step_of(each)) for each in there)
        raise UserError(
            f"--step: {path} has no checkpoint of step {step}, only of {steps or 'none'}; train with checkpoint.keep="
            "100 to keep more of them"
        )
    tensors, _ = checkpoint.read(checkpoint.step_folder(root, step))
    state = tensors["model"] | tensors.get("average", {})
    if first_misfit(model.state_dict(), state) is not None:
        raise UserError(f"--step: the checkpoint of step {step} does not fit the model in {path / 'model'}")
    model.load_state_dict(state)
    return step
