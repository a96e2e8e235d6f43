"""RUN -> INTERFERENCE: which task helps or hurts which, measured with gradients on a run's own data."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from uniperceiver.config import InterferenceConfig, Recipe, read_recipe
from uniperceiver.data.mix import Mixture
from uniperceiver.data.tasks import TaskData, open_tasks
from uniperceiver.devices import device_of, refuse_other_defaults, refuse_without_gradients
from uniperceiver.errors import UserError, nearest
from uniperceiver.interference.estimate import LEAST_BLOCKS, InterferenceEstimate, estimate, measure
from uniperceiver.interference.finite_differences import finite_differences
from uniperceiver.interference.groups import ParameterGroup
from uniperceiver.interference.records import Interference, as_record, scalars, write_measurement
from uniperceiver.model.model import Generalist
from uniperceiver.own_code import import_code
from uniperceiver.report.figures import image_of, interference_heat_maps
from uniperceiver.runs.checks.sizes import check_sizes
from uniperceiver.runs.evaluate import as_trained
from uniperceiver.runs.folder import saved_recipe
from uniperceiver.runs.interference.callback import RepeatableBatches, batches_of_each_task, trained_groups
from uniperceiver.runs.report import read_results, write_report
from uniperceiver.runs.steps import Step, checkpoint_of, load_saved
from uniperceiver.runs.training import mixture_of, objective_of
from uniperceiver.runs.tuning import with_fraction
from uniperceiver.serving.predictor import UniPerceiver
from uniperceiver.training.checkpoint import list_checkpoints, step_of
from uniperceiver.training.log import show_in_tensorboard

_PASSES = 4  # over the batches, when intervals are wanted


@dataclass(frozen=True, kw_only=True)
class InterferenceSettings:
    """What is measured."""

    parameters: str = InterferenceConfig().parameters
    batches: int | None = None  # of each task; None: 100, or as many as there are samples for
    batch: int | None = None  # samples in one; None: as in training
    tasks: tuple[str, ...] = ()  # none: all
    step: Step | None = None  # of which checkpoint; None: the run's model
    split: str = "train"
    by_steps: bool = False  # by finite differences in float64, instead of by gradients
    device: str | None = None  # None: where the recipe says
    on_batch: Callable[[int, int], None] | None = None  # told how many of how many losses are computed


def interference_of_run(path: Path, settings: InterferenceSettings, data: Path | None = None) -> Interference:
    """Measure interference between the tasks of a run or saved model, on each group of parameters.

    Args:
        settings: what is measured, and where.
        data: a recipe whose data are used instead of the run's own; a model that is no run needs one.

    Raises:
        UserError: fewer than two tasks, no such task, split, checkpoint or parameter; a task that does not use the
            parameters; a gradient that is not finite.
    """
    refuse_other_defaults()
    if not settings.by_steps:
        refuse_without_gradients()
    model = UniPerceiver(load_saved(path, settings.step))
    recipe, base = (read_recipe(data), data.parent) if data is not None else saved_recipe(path)
    if data is not None:
        import_code(recipe.imports, base)
    tasks = _chosen(recipe, base, model, settings)
    groups = trained_groups(model.model, settings.parameters)
    steps = [step_of(folder) for folder in list_checkpoints(path / "checkpoints")]
    step = max(steps, default=0) if settings.step is None else step_of(checkpoint_of(path, settings.step))
    device = device_of(settings.device or recipe.device)
    model.model.to(device, torch.float64 if settings.by_steps else None)
    optimiser = dataclasses.replace(recipe.optimiser, precision="float32")  # whatever the run was trained in
    recipe = dataclasses.replace(recipe, device=str(device), optimiser=optimiser)
    mixture = _mixture(recipe, tasks, model, settings.split)
    losses = RepeatableBatches(
        model=model.model,
        objective=objective_of(recipe, tasks, model.saved),
        mixture=mixture,
        batches=batches_of_each_task(mixture, settings.batches),
        workers=recipe.data.workers,
        on_batch=settings.on_batch,
    )
    names = tuple(data.task.name for data in tasks)
    estimates = _estimates(names, groups, model.model, losses, recipe.seed, by_steps=settings.by_steps)
    return as_record(estimates, step=step, tasks=names, parameters=settings.parameters, batches=losses.batches)


def _estimates(
    names: tuple[str, ...],
    groups: Sequence[ParameterGroup],
    model: Generalist,
    losses: RepeatableBatches,
    seed: int,
    *,
    by_steps: bool,
) -> Mapping[ParameterGroup, InterferenceEstimate]:
    parameters = dict(model.named_parameters())
    count = len(names) * losses.batches
    if by_steps:
        losses.expect(len(groups) * (2 + count) * count)
        differences = finite_differences(names, groups, parameters, losses)
        return {group: estimate(dots, seed) for group, dots in differences.items()}
    intervals = losses.batches >= LEAST_BLOCKS
    losses.expect((_PASSES if intervals else _PASSES // 2) * count)
    return measure(names, groups, parameters, losses, intervals=intervals, seed=seed)


def _chosen(recipe: Recipe, base: Path, model: UniPerceiver, settings: InterferenceSettings) -> list[TaskData]:
    """The tasks that are compared, as the model knows them."""
    for name in settings.tasks:
        if name not in recipe.tasks:
            raise UserError(f"--task: no task {name!r}; {nearest(name, recipe.tasks)}")
    opened = [as_trained(data, model) for data in with_fraction(recipe, open_tasks(recipe, base))]
    tasks = [data for data in opened if not settings.tasks or data.task.name in settings.tasks]
    if len(tasks) < 2:
        raise UserError("interference is between tasks: at least two are needed; name another one with --task")
    if settings.batch is not None and settings.batch < 1:
        raise UserError(f"--batch: {settings.batch} is no number of samples; give 1 or more")
    if settings.batches is not None and settings.batches < 2:
        raise UserError("--batches: at least 2 are needed, as no batch is compared with itself")
    for data in tasks:
        if settings.split not in data.sources:
            there = ", ".join(data.sources)
            raise UserError(f"tasks.{data.task.name}: has no split {settings.split!r}; --split can be one of {there}")
    check_sizes(recipe, tasks, model.saved.arch)
    return tasks if settings.batch is None else [_resized(data, settings.batch) for data in tasks]


def _resized(data: TaskData, batch: int) -> TaskData:
    late = dataclasses.replace(data.config.late, batch=batch)
    return dataclasses.replace(data, config=dataclasses.replace(data.config, late=late))


def _mixture(recipe: Recipe, tasks: list[TaskData], model: UniPerceiver, split: str) -> Mixture:
    """The chosen tasks' samples of that split."""
    chosen = [
        dataclasses.replace(data, index=0 if data.index is None else data.index, sources={"train": data.sources[split]})
        for data in tasks
    ]
    return mixture_of(recipe, chosen, model.codec, model.model.tokenizer)


def keep_in_run(run: Path, measured: Interference) -> list[Path]:
    """Write a measurement into a run's folder, its report and its TensorBoard; the files that were written."""
    written = [write_measurement(run, measured)]
    image_HWC = image_of(interference_heat_maps(measured))
    show_in_tensorboard(run, measured.step, scalars(measured), {"interference": image_HWC})
    if (run / "results.json").is_file():
        written.append(write_report(run, read_results(run)))
    return written
