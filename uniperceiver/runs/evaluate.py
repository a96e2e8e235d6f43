"""RUN -> FIGURES: a run is evaluated, and shown as a table, as JSON and as a report."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from uniperceiver.data.tasks import TaskData, open_tasks
from uniperceiver.errors import UserError, nearest
from uniperceiver.evaluation.answers.kind import Metrics
from uniperceiver.evaluation.evaluate import evaluate, first_metric
from uniperceiver.evaluation.intervals import above_chance
from uniperceiver.evaluation.split import Settings
from uniperceiver.records import Broken
from uniperceiver.runs.checks import check_causal, notes_on
from uniperceiver.runs.prepare import check_sizes
from uniperceiver.runs.recipe import read_recipe, saved_recipe
from uniperceiver.runs.tuning import parts
from uniperceiver.runs.validation import device_of, evaluation_settings, splits_of
from uniperceiver.serving.predictor import UniPerceiver
from uniperceiver.serving.task_choice import refuse_other_classes
from uniperceiver.strict import to_json

Results = dict[str, dict[str, dict[str, Metrics]]]  # {"tasks": {task: {split: {metric: value}}}}


def evaluate_run(
    path: Path,
    *,
    splits: tuple[str, ...],
    task: str | None = None,
    data: Path | None = None,
    train_limit: int = 0,
    device: str | None = None,
) -> Results:
    """All figures of a run's (or saved model's) splits, on its own data or on those of another recipe.

    Args:
        train_limit: samples of each training split, spread evenly over it; 0: all.
        device: where to compute, instead of where the recipe says.

    Raises:
        UserError: no such task or split, data that do not fit the model, no recipe to take data from.
    """
    model = UniPerceiver.from_pretrained(path)
    recipe, base = (read_recipe(data), data.parent) if data is not None else saved_recipe(path)
    if task is not None and task not in recipe.tasks:
        raise UserError(f"--task: no task {task!r}; {nearest(task, recipe.tasks)}")
    if task is not None:
        recipe = dataclasses.replace(recipe, tasks={task: recipe.tasks[task]})
    tasks = [as_trained(one, model) for one in parts(recipe, open_tasks(recipe, base))]
    arch = model.saved.arch
    check_sizes(recipe, tasks, arch)
    if arch.moe is not None:
        check_causal(arch.moe, [one.task for one in tasks])
    for note in notes_on(arch):
        tell(note)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    place = device_of(device or recipe.device)
    model.model.to(place)
    settings = evaluation_settings(recipe, model.codec, place)
    results = _evaluate_tasks(model, tasks, splits, settings, train_limit)
    if not any(results["tasks"].values()):
        raise UserError(f"{path}: none of the splits {', '.join(splits)} has data; name another with --split")
    return results


def as_trained(data: TaskData, model: UniPerceiver) -> TaskData:
    """The task with the index and the preprocessing it had in training; a task the model does not know is anonymous."""
    refuse_other_classes(model.saved, data.task)
    known = model.saved.tasks.get(data.task.name)
    if known is None and model.saved.arch.needs_task:
        raise UserError(
            f"tasks.{data.task.name}: this model chose its experts by task, and it was not trained on this one; name "
            f"it as one of {', '.join(model.saved.tasks)}"
        )
    if known is None:
        return dataclasses.replace(data, index=None)
    return dataclasses.replace(data, index=known.index, preprocess=known.preprocess)


def _evaluate_tasks(
    model: UniPerceiver, tasks: list[TaskData], splits: tuple[str, ...], settings: Settings, train_limit: int
) -> Results:
    figures: dict[str, dict[str, Metrics]] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for data in tasks:
            for split in splits_of(data, splits):
                bar = progress.add_task(f"{data.task.name}/{split.name}", total=None)

                def on_batch(done: int, total: int, bar: Any = bar) -> None:
                    progress.update(bar, completed=done, total=total)

                limit = train_limit if split.name == "train" else 0
                with_bar = dataclasses.replace(settings, on_batch=on_batch, on_broken=_tell, limit=limit)
                figures.setdefault(data.task.name, {})[split.name] = evaluate(model.model, split, with_bar)
                progress.remove_task(bar)
    return {"tasks": figures}


def _tell(broken: Broken) -> None:
    tell(f"broken sample left out: {broken.task}: {broken.sample}: {broken.reason}")


def tell(text: str) -> None:
    """A line for people beside a command's answer."""
    Console(stderr=True).print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def write_results(folder: Path, results: Results) -> None:
    """results.json of a run."""
    (folder / "results.json").write_text(to_json(results, indent=1) + "\n", encoding="utf-8")


def print_results(results: Results) -> None:
    """A table of every task and split: its main metric with interval and chance, and its loss."""
    headers = ("task", "split", "metric", "value", "95 %", "chance", "above", "loss", "n")
    table = Table(*headers, box=SIMPLE, pad_edge=False, caption="above: the 95 % interval excludes chance")
    for task, splits in results["tasks"].items():
        for split, metrics in splits.items():
            name = first_metric(metrics)
            assert name is not None
            low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
            table.add_row(
                task,
                split,
                name,
                f"{metrics[name]:.3f}",
                "" if low is None or high is None else f"{low:.3f}-{high:.3f}",
                f"{metrics['chance']:.3f}",
                "" if low is None else "yes" if above_chance(low, metrics["chance"]) else "no",
                f"{metrics['loss']:.3f}",
                str(metrics["n"]),
            )
    Console(width=max(Console().width, 100)).print(table)  # a pipe has 80 columns, where figures would be cut
