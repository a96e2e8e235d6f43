"""RUN -> EXPERTS: what a run's gates decide on samples of its tasks, as a table, as JSON and as a picture."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from uniperceiver.data.tasks import TaskData, open_tasks
from uniperceiver.devices import device_of
from uniperceiver.errors import UserError, nearest
from uniperceiver.evaluation.experts import Experts, decisions
from uniperceiver.evaluation.split import Settings, Split
from uniperceiver.model.architecture import Architecture
from uniperceiver.moe.statistics import GateFigures, Group, Statistics, gate_figures, statistics
from uniperceiver.report.experts_groups import TokenGroup, gates_of, token_groups
from uniperceiver.report.markup import shortened
from uniperceiver.report.run_report import RunReport, render
from uniperceiver.runs.evaluate import warn_of_broken
from uniperceiver.runs.folder import saved_recipe
from uniperceiver.runs.validation import evaluation_settings, splits_of
from uniperceiver.serving.predictor import UniPerceiver

_SPLITS = ("val", "test", "train")  # the first that there is is looked at
_NAMED = 16  # up to so many experts have a column
_WIDEST = 32  # characters of the tasks' names


def experts_of_run(
    path: Path,
    *,
    task: str | None = None,
    split: str | None = None,
    limit: int = 256,
    device: str | None = None,
) -> Experts:
    """What the gates of a run's model decide on its own data.

    Args:
        task: only this task.
        split: of which split; None: the validation split, or else test or training.
        limit: samples of each task, spread evenly over the split, and texts of its candidates; 0: all.
        device: where to compute, instead of where the recipe says.

    Raises:
        UserError: the model has no gates; no such task or split; the folder is no run.
    """
    model = UniPerceiver.from_pretrained(path)
    _check_gates(model.saved.arch, path)
    if not (path / "recipe.yaml").is_file():
        raise UserError(f"{path}: not a run (it has no recipe.yaml to name data); give the folder that train wrote")
    recipe, base = saved_recipe(path)
    if task is not None and task not in recipe.tasks:
        raise UserError(f"--task: no task {task!r}; {nearest(task, recipe.tasks)}")
    place = device_of(device or recipe.device)
    model.model.to(place)
    settings = evaluation_settings(recipe, model.codec, place)
    settings = dataclasses.replace(settings, limit=limit, on_broken=warn_of_broken)
    tasks = [data for data in open_tasks(recipe, base) if task in (None, data.task.name)]
    splits = _SPLITS if split is None else (split,)
    if not any(splits_of(data, splits) for data in tasks):
        raise UserError(f"{path}: no data in split {split}; name another with --split")
    found = experts_of(model, tasks, settings, splits)
    assert found is not None
    return found


def _check_gates(arch: Architecture, path: Path) -> None:
    if arch.moe is None:
        raise UserError(f"{path}: a dense model, which has no experts; train one with, say, moe.condition=attribute")
    if arch.merged is not None:
        raise UserError(
            f"{path}: a merged model: its experts became plain weights, so nothing is chosen any more; look at the run "
            "that it was merged from"
        )


def experts_of(
    model: UniPerceiver, tasks: Sequence[TaskData], settings: Settings, splits: tuple[str, ...] = _SPLITS
) -> Experts | None:
    """What the gates decide on the first of these splits that a task has; None for a model without experts."""
    arch = model.saved.arch
    if arch.moe is None or arch.merged is not None:
        return None
    figures: list[GateFigures] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for data in tasks:
            for split in splits_of(data, splits)[:1]:
                bar = progress.add_task(f"{split.task.name}/{split.name}", total=None)

                def on_batch(done: int, total: int, bar: Any = bar) -> None:
                    progress.update(bar, completed=done, total=total)

                found = _statistics(model, split, dataclasses.replace(settings, on_batch=on_batch))
                figures += [gate_figures(split.task.name, *sums) for sums in found.items()]
                progress.remove_task(bar)
    return Experts(condition=arch.moe.condition, experts=arch.moe.experts, k=arch.moe.k, figures=figures)


def _statistics(model: UniPerceiver, split: Split, settings: Settings) -> dict[Group, Statistics]:
    totals: dict[Group, Statistics] = {}
    for several in decisions(model.model, split, settings):
        for group, one in statistics(several).items():
            totals[group] = totals[group] + one if group in totals else one
    return totals


def print_experts(found: Experts) -> None:
    """A table of every gate and group of tokens; tasks that every gate treats alike share a line."""
    console = Console(width=max(Console().width, 120))  # a pipe has 80 columns, where figures would be cut
    if not found.figures:
        console.print(
            f"{found.condition}: each task has its own copy of the weights, so there is no gate, and nothing to count"
        )
        return
    groups = token_groups(found.figures)
    for part in dict.fromkeys(part for part, _, _ in gates_of(groups)):
        console.print(_table(found, groups, part))


def _table(found: Experts, groups: Sequence[TokenGroup], part: str) -> Table:
    load = "load of expert, %" if found.experts > _NAMED else _columns([str(each) for each in range(found.experts)])
    columns = ["layer", "tasks", "tokens", load, "entropy", "top-1", "dropped"]
    rows = [(gate, group) for gate in gates_of(groups) if gate[0] == part for group in groups if gate in group.by_gate]
    unserved = any(group.by_gate[gate].unserved for gate, group in rows)
    table = Table(
        box=SIMPLE,
        pad_edge=False,
        title=f"{part}: load of each expert in % ({found.condition}, {found.k} of {found.experts})",
        caption="entropy of the probabilities in nats; top-1: mean probability of the likeliest expert",
    )
    for name in [*columns, *(["unserved"] if unserved else [])]:
        table.add_column(name, no_wrap=True)
    previous = None
    for gate, group in rows:
        one = group.by_gate[gate]
        if previous not in (None, gate):
            table.add_section()
        table.add_row(
            "" if previous == gate else _layer(gate[1], gate[2]),
            shortened(", ".join(group.tasks), _WIDEST),
            group.tokens,
            _loads(one),
            f"{one.entropy:.2f}",
            f"{one.top1:.2f}",
            f"{100 * one.drop_rate:.1f}",
            *([f"{100 * one.unserved:.1f}"] if unserved else []),
        )
        previous = gate
    return table


def _layer(gate: int, layer: int) -> str:
    return f"{layer} (gate {gate})" if gate else str(layer)


def _loads(one: GateFigures) -> str:
    """Per cents of all experts, or the largest of many."""
    if len(one.load) <= _NAMED:
        return _columns(["·" if not each else f"{100 * each:.0f}" for each in one.load])
    order = sorted(range(len(one.load)), key=lambda expert: -one.load[expert])
    return " ".join(f"{expert}:{100 * one.load[expert]:.0f}" for expert in order[:8] if one.load[expert])


def _columns(texts: Sequence[str]) -> str:
    return "".join(f"{text:>3}" for text in texts)  # no two are 100


def write_picture(found: Experts, run: Path, path: Path) -> None:
    """The picture of the report as a page of its own.

    Raises:
        UserError: the file cannot be written.
    """
    names = dict.fromkeys(each.task for each in found.figures)
    page = RunReport(
        title=f"uniperceiver: {run.name}",
        facts={},
        recipe="",
        log=[],
        results={},
        main_metrics=dict.fromkeys(names, ""),
        experts=found,
    )
    try:
        path.write_text(render(page), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); name another file with --picture") from None
