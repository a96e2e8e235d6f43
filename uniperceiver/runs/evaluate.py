"""RUN -> METRICS: a run or a saved model is measured on the splits of its tasks."""

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from uniperceiver.config import ParallelConfig, Recipe, read_recipe
from uniperceiver.data.table_files import check_table, write_table
from uniperceiver.data.tasks import SPLITS, TaskData, alike_notes, open_tasks
from uniperceiver.devices import device_of, refuse_other_defaults
from uniperceiver.errors import UserError, nearest, warn
from uniperceiver.evaluation.answers.kind import Metrics
from uniperceiver.evaluation.evaluate import evaluate as evaluate_split
from uniperceiver.evaluation.localisation.coco_results import CocoIds, CocoResults
from uniperceiver.evaluation.predictions import BOX_COLUMNS, COLUMNS, ClassPrecision, ClassTable, Prediction
from uniperceiver.evaluation.split import Settings
from uniperceiver.model.architecture import notes_on
from uniperceiver.own_code import import_code
from uniperceiver.parallel.lost import missed
from uniperceiver.parallel.start import joined
from uniperceiver.parallel.world import World
from uniperceiver.records import Broken
from uniperceiver.runs.checks.experts import check_causal
from uniperceiver.runs.checks.sizes import check_sizes
from uniperceiver.runs.folder import saved_recipe
from uniperceiver.runs.hearing.statistics import heard_alike
from uniperceiver.runs.steps import Step, load_saved
from uniperceiver.runs.tuning import with_fraction
from uniperceiver.runs.validation import evaluation_settings, splits_of
from uniperceiver.serving.predictor import UniPerceiver
from uniperceiver.serving.task_choice import refuse_other_classes
from uniperceiver.training.data_facts import other_classes
from uniperceiver.waiting import bars

# {"tasks": {task: {split: {metric: value}}}, "classes": {task: {split: ClassTable}}, "precision": {task: {split:
# ClassPrecision}}}, as in results.json
Results = dict[str, dict[str, dict[str, Any]]]


def evaluate(
    run: str | Path,
    *,
    splits: str | Sequence[str] = ("val", "test"),
    task: str | None = None,
    data: str | Path | None = None,
    tasks: Sequence[TaskData] | None = None,
    train_limit: int = 0,
    step: Step | None = None,
    trust: bool = False,
    device: str | None = None,
    predictions: str | Path | None = None,
    detections: str | Path | None = None,
    quiet: bool = False,
    world: World | None = None,
) -> Results:
    """Measure the splits of a run's (or saved model's) tasks, on its own data or on those of another recipe.

    Args:
        splits: of train, val and test; those that a task does not have are left out.
        task: only this one.
        data: the recipe whose data are used instead of the run's own; a saved model that is no run needs one.
        tasks: tasks and sources made by a program, instead of those that the recipe names.
        train_limit: samples of each training split, drawn alike in every call; 0: all.
        step: of which checkpoint, a number or "best"; None: the model in the run's folder.
        trust: execute the Python files that lie beside the model and that it needs.
        device: where to compute, instead of where the recipe says.
        predictions: a file for what was answered to each sample, .csv, .jsonl or .parquet; None: no such file.
        detections: a COCO results file (.json) for what was found in one task's split, with the data's own ids.
        quiet: show no progress.
        world: the processes that share the batches, each of which calls this; None: those that a launcher has started.

    Returns:
        {"tasks": {task: {split: {metric: value}}}}; a metric has its 95 % interval beside it (NAME_low, NAME_high), and
        there are `chance`, `loss` and the number of samples `n`. For tasks with classes also {"classes": {task:
        {split: {"names": [...], "counts": [[right, answered, samples], ...]}}}}, the confusion matrix without zeros;
        for those that find things {"precision": {task: {split: {"names": [...], "things": [...], "figures": {"ap":
        [...], ...}}}}}, class by class.

    Raises:
        UserError: no such task or split, unfit data, no recipe to take data from, a file that cannot be written.

    Example:
        >>> import uniperceiver  # runs/tiny is the run that `uniperceiver.train` has as its example
        >>> metrics = uniperceiver.evaluate("runs/tiny", splits=["train"], quiet=True)["tasks"]["colours"]["train"]
        >>> 0 <= metrics["accuracy@1_low"] <= metrics["accuracy@1"] <= 1
        True
    """
    refuse_other_defaults()
    names, files = _names_of_splits(splits), _Files(table=predictions, detections=detections)
    processes = (
        joined(timeout=ParallelConfig().timeout, accelerated=device != "cpu") if world is None else nullcontext(world)
    )
    with processes as together:
        return _evaluated(Path(run), names, task, data, tasks, train_limit, step, trust, device, files, quiet, together)


@dataclass(frozen=True, kw_only=True)
class _Files:
    """What is written beside the figures."""

    table: str | Path | None
    detections: str | Path | None


def _evaluated(
    path: Path,
    splits: tuple[str, ...],
    task: str | None,
    data: str | Path | None,
    tasks: Sequence[TaskData] | None,
    train_limit: int,
    step: Step | None,
    trust: bool,
    device: str | None,
    files: _Files,
    quiet: bool,
    world: World,
) -> Results:
    table = None if files.table is None else Path(files.table)
    with world.together(UserError):
        if world.is_first:
            check_table(table, "predictions", tuple(COLUMNS))
        model = UniPerceiver(load_saved(path, step, trust=trust))
        recipe, base = saved_recipe(path) if data is None else _read(Path(data))
        recipe = recipe if task is None else _with_task(recipe, task)
        opened = open_tasks(recipe, base) if tasks is None else [t for t in tasks if t.task.name in recipe.tasks]
        measured = _fitting(recipe, opened, model, world)
        settings = evaluation_settings(recipe, model.codec, device_of(device or recipe.device))
        model.model.to(settings.device)
        gathered = _Gathered(things=None if files.detections is None else _results_file(measured, splits))
    settings = dataclasses.replace(gathered.listening(settings, table), world=world)
    with missed(world, lambda rank: "while the model was evaluated"):
        results = _evaluate_tasks(model, measured, splits, settings, train_limit, quiet or not world.is_first)
    if not any(results["tasks"].values()):
        raise UserError(f"{path}: none of the splits {', '.join(splits)} has data; name another with --split")
    with world.together(UserError):
        if world.is_first:
            gathered.write(table, files.detections)
    return results


@dataclass(frozen=True, kw_only=True)
class _Gathered:
    """What is gathered while splits are measured, for files beside the figures."""

    things: CocoResults | None
    answers: list[Prediction] = field(default_factory=list)

    def listening(self, settings: Settings, table: Path | None) -> Settings:
        """The settings by which answers come here, those for a table only where there is to be one."""
        return dataclasses.replace(
            settings,
            on_predictions=None if table is None else self.answers.extend,
            on_detections=None if self.things is None else self.things.add,
        )

    def write(self, table: Path | None, results_file: str | Path | None) -> None:
        """Write the files that were asked for."""
        if table is not None:
            columns = BOX_COLUMNS if any(answer.box for answer in self.answers) else COLUMNS
            write_table(table, columns, [vars(answer) for answer in self.answers])
        if self.things is not None and results_file is not None:
            self.things.write(Path(results_file))


def _results_file(measured: Sequence[TaskData], splits: tuple[str, ...]) -> CocoResults:
    """What gathers the detections of the only task about things, on its only split.

    Raises:
        UserError: there are several, or none.
    """
    about_things = [item for item in measured if item.task.answer.reads_objects]
    places = [(item, split) for item in about_things for split in splits if split in item.sources]
    if len(places) != 1:
        names = ", ".join(f"{item.task.name}/{split}" for item, split in places)
        raise UserError(
            "--detections: a results file is about the pictures of one task and split, and here are "
            f"{names or 'none with things'}; name them with --task and --split"
        )
    ((item, split),) = places
    return CocoResults(ids=CocoIds.of(item.sources[split]))


def _read(path: Path) -> tuple[Recipe, Path]:
    """A recipe, after its own files were executed, and the folder that its paths start at."""
    recipe = read_recipe(path)
    import_code(recipe.imports, path.parent)
    return recipe, path.parent


def _with_task(recipe: Recipe, task: str) -> Recipe:
    """The recipe with one of its tasks alone."""
    if task not in recipe.tasks:
        raise UserError(f"--task: no task {task!r}; {nearest(task, recipe.tasks)}")
    return dataclasses.replace(recipe, tasks={task: recipe.tasks[task]})


def _names_of_splits(splits: str | Sequence[str]) -> tuple[str, ...]:
    """One or several names of splits, each of which there may be."""
    names = (splits,) if isinstance(splits, str) else tuple(splits)
    for name in names:
        if name not in SPLITS:
            raise UserError(f"splits: no split {name!r}; {nearest(str(name), SPLITS)}")
    return names


def _fitting(recipe: Recipe, opened: Sequence[TaskData], model: UniPerceiver, world: World) -> list[TaskData]:
    """The tasks as the model was trained on them, after what does not fit it was refused."""
    arch = model.saved.arch
    measured = [as_trained(item, model) for item in heard_alike(with_fraction(recipe, list(opened)), arch)]
    check_sizes(recipe, measured, arch)
    if arch.moe is not None:
        check_causal(arch.moe, [item.task for item in measured])
    if not world.is_first:
        return measured
    by_class = arch.prompts is not None and (arch.prompts.classes or arch.prompts.labels)
    changed = [_changed_classes(item, model) for item in measured]
    alike = [alike_notes(item, lambda text: tuple(model.codec.encode(text))) for item in measured if not by_class]
    for note in chain(notes_on(arch), *changed, *alike):
        warn(note)
    return measured


def _changed_classes(data: TaskData, model: UniPerceiver) -> list[str]:
    """A line about a task whose classes are not those that the model was trained on."""
    trained = model.saved.tasks.get(data.task.name)
    if trained is None or trained.task.labels == data.task.labels:
        return []
    before, now = ([texts[0] for texts in task.labels] for task in (trained.task, data.task))
    return [f"tasks.{data.task.name}: has other classes than the model was trained on ({other_classes(before, now)})"]


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
    classes: dict[str, dict[str, Any]] = {}
    precisions: dict[str, dict[str, Any]] = {}
    on_broken = warn_of_broken if settings.world.is_first else settings.on_broken
    with bars(quiet=quiet) as shown:
        for data in tasks:
            for split in splits_of(data, splits):
                name = f"evaluating {data.task.name}/{split.name}"
                on_batch = partial(shown.move, name)

                def on_classes(table: ClassTable, task: str = data.task.name, split: str = split.name) -> None:
                    classes.setdefault(task, {})[split] = dataclasses.asdict(table)

                def on_precision(
                    precision: ClassPrecision, task: str = data.task.name, split: str = split.name
                ) -> None:
                    precisions.setdefault(task, {})[split] = dataclasses.asdict(precision)

                limit = train_limit if split.name == "train" else 0
                with_bar = dataclasses.replace(
                    settings,
                    on_batch=on_batch,
                    on_broken=on_broken,
                    on_classes=on_classes,
                    on_precision=on_precision,
                    limit=limit,
                )
                metrics.setdefault(data.task.name, {})[split.name] = evaluate_split(model.model, split, with_bar)
                shown.remove(name)
    by_class = {"classes": classes, "precision": precisions}
    return {"tasks": metrics} | {name: tables for name, tables in by_class.items() if tables}


def warn_of_broken(broken: Broken) -> None:
    """Name a sample that was left out."""
    warn(f"broken sample left out: {broken.task}: {broken.sample}: {broken.reason}")
