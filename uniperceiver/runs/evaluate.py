"""RUN -> METRICS: a run or a saved model is measured on the splits of its tasks."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from uniperceiver.config import read_recipe
from uniperceiver.data.tasks import TaskData, open_tasks
from uniperceiver.devices import device_of
from uniperceiver.errors import UserError, nearest, warn
from uniperceiver.evaluation.answers.kind import Metrics
from uniperceiver.evaluation.evaluate import evaluate as evaluate_split
from uniperceiver.evaluation.split import Settings
from uniperceiver.model.architecture import notes_on
from uniperceiver.records import Broken
from uniperceiver.runs.checks import check_causal, check_sizes
from uniperceiver.runs.folder import saved_recipe
from uniperceiver.runs.steps import Step, load_saved
from uniperceiver.runs.tuning import with_fraction
from uniperceiver.runs.validation import evaluation_settings, splits_of
from uniperceiver.serving.predictor import UniPerceiver
from uniperceiver.serving.task_choice import refuse_other_classes

Results = dict[str, dict[str, dict[str, Metrics]]]  # {"tasks": {task: {split: {metric: value}}}}


def evaluate(
    run: str | Path,
    *,
    splits: Sequence[str] = ("val", "test"),
    task: str | None = None,
    data: str | Path | None = None,
    tasks: Sequence[TaskData] | None = None,
    train_limit: int = 0,
    step: Step | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> Results:
    """Measure the splits of a run's (or saved model's) tasks, on its own data or on those of another recipe.

    Args:
        splits: of train, val and test; those that a task does not have are left out.
        task: only this one.
        data: the recipe whose data are used instead of the run's own; a saved model that is no run needs one.
        tasks: tasks and sources made by a program, instead of those that the recipe names.
        train_limit: samples of each training split, drawn alike in every call; 0: all.
        step: of which checkpoint, a number or "best"; None: the model in the run's folder.
        device: where to compute, instead of where the recipe says.
        quiet: show no progress.

    Returns:
        {"tasks": {task: {split: {metric: value}}}}; a metric has its 95 % interval beside it (NAME_low, NAME_high), and
        there are `chance`, `loss` and the number of samples `n`.

    Raises:
        UserError: no such task or split, data that do not fit the model, no recipe to take data from.

    Example:
        >>> import uniperceiver  # runs/tiny is the run that `uniperceiver.train` has as its example
        >>> metrics = uniperceiver.evaluate("runs/tiny", splits=["train"], quiet=True)["tasks"]["colours"]["train"]
        >>> 0 <= metrics["accuracy@1_low"] <= metrics["accuracy@1"] <= 1
        True
    """
    path = Path(run)
    model = UniPerceiver(load_saved(path, step))
    recipe, base = (read_recipe(data), Path(data).parent) if data is not None else saved_recipe(path)
    if task is not None and task not in recipe.tasks:
        raise UserError(f"--task: no task {task!r}; {nearest(task, recipe.tasks)}")
    if task is not None:
        recipe = dataclasses.replace(recipe, tasks={task: recipe.tasks[task]})
    opened = open_tasks(recipe, base) if tasks is None else [item for item in tasks if item.task.name in recipe.tasks]
    measured = [as_trained(item, model) for item in with_fraction(recipe, opened)]
    arch = model.saved.arch
    check_sizes(recipe, measured, arch)
    if arch.moe is not None:
        check_causal(arch.moe, [item.task for item in measured])
    for note in notes_on(arch):
        warn(note)
    settings = evaluation_settings(recipe, model.codec, device_of(device or recipe.device))
    model.model.to(settings.device)
    results = _evaluate_tasks(model, measured, tuple(splits), settings, train_limit, quiet)
    if not any(results["tasks"].values()):
        raise UserError(f"{path}: none of the splits {', '.join(splits)} has data; name another with --split")
    return results


def as_trained(data: TaskData, model: UniPerceiver) -> TaskData:
    """The task with the index and the preprocessing it had in training; a task the model does not know is anonymous."""
    refuse_other_classes(model.saved, data.task)
    trained = model.saved.tasks.get(data.task.name)
    if trained is None and model.saved.arch.needs_task:
        raise UserError(
            f"tasks.{data.task.name}: this model chose its experts by task, and it was not trained on this one; name "
            f"it as one of {', '.join(model.saved.tasks)}"
        )
    if trained is None:
        return dataclasses.replace(data, index=None)
    return dataclasses.replace(data, index=trained.index, preprocess=trained.preprocess)


def _evaluate_tasks(
    model: UniPerceiver,
    tasks: list[TaskData],
    splits: tuple[str, ...],
    settings: Settings,
    train_limit: int,
    quiet: bool,
) -> Results:
    metrics: dict[str, dict[str, Metrics]] = {}
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as progress:
        for data in tasks:
            for split in splits_of(data, splits):
                bar = progress.add_task(f"{data.task.name}/{split.name}", total=None)

                def on_batch(done: int, total: int, bar: Any = bar) -> None:
                    progress.update(bar, completed=done, total=total)

                limit = train_limit if split.name == "train" else 0
                with_bar = dataclasses.replace(settings, on_batch=on_batch, on_broken=warn_of_broken, limit=limit)
                metrics.setdefault(data.task.name, {})[split.name] = evaluate_split(model.model, split, with_bar)
                progress.remove_task(bar)
    return {"tasks": metrics}


def warn_of_broken(broken: Broken) -> None:
    """Name a sample that was left out."""
    warn(f"broken sample left out: {broken.task}: {broken.sample}: {broken.reason}")
