"""RUN -> EXPERTS: what a run's gates decide on samples of its tasks, as a table, as JSON and as a picture."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from uniperceiver.atomic import write_text
from uniperceiver.data.tasks import TaskData, open_tasks
from uniperceiver.devices import device_of, refuse_other_defaults
from uniperceiver.errors import UserError, nearest
from uniperceiver.evaluation.experts import Experts, decisions, idle_gates
from uniperceiver.evaluation.split import Settings, Split
from uniperceiver.model.architecture import Architecture
from uniperceiver.moe.statistics import GateFigures, Group, Statistics, gate_figures, statistics
from uniperceiver.report.parts.numbers import shortened
from uniperceiver.report.parts.token_groups import TokenGroup, gates_of, token_groups
from uniperceiver.report.run.page import render_run
from uniperceiver.report.run.records import RunReport
from uniperceiver.runs.evaluate import warn_of_broken
from uniperceiver.runs.folder import saved_recipe
from uniperceiver.runs.hearing.statistics import heard_alike
from uniperceiver.runs.validation import evaluation_settings, splits_of
from uniperceiver.serving.predictor import UniPerceiver
from uniperceiver.waiting import bars

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
    refuse_other_defaults()
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
    opened = heard_alike(open_tasks(recipe, base), model.saved.arch)
    tasks = [data for data in opened if task in (None, data.task.name)]
    splits = _SPLITS if split is None else (split,)
    if not any(splits_of(data, splits) for data in tasks):
        raise UserError(f"{path}: no data in split {split}; name another with --split")
    experts = experts_of(model, tasks, settings, splits)
    assert experts is not None
    return experts


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
    with bars() as shown:
        for data in tasks:
            for split in splits_of(data, splits)[:1]:
                name = f"routing {split.task.name}/{split.name}"
                on_batch = partial(shown.move, name)
                totals = _statistics(model, split, dataclasses.replace(settings, on_batch=on_batch))
                figures += [gate_figures(split.task.name, *sums) for sums in totals.items()]
                shown.remove(name)
    return Experts(condition=arch.moe.condition, experts=arch.moe.experts, k=arch.moe.k, figures=figures)


def _statistics(model: UniPerceiver, split: Split, settings: Settings) -> dict[Group, Statistics]:
    totals: dict[Group, Statistics] = {}
    for batch in decisions(model.model, split, settings):
        for group, sums in statistics(batch).items():
            totals[group] = totals[group] + sums if group in totals else sums
    return totals


def print_experts(experts: Experts) -> None:
    """Print a table of every gate and group of tokens; tasks that every gate treats alike share a line."""
    console = Console(width=max(Console().width, 120))  # a pipe has 80 columns, where figures would be cut
    if not experts.figures:
        console.print(
            f"{experts.condition}: each task has its own copy of the weights, so there is no gate, and nothing to count"
        )
        return
    groups = token_groups(experts.figures)
    for part in dict.fromkeys(part for part, _, _ in gates_of(groups)):
        console.print(_table(experts, groups, part))
    for line in idle_gates(experts):
        console.print(line, style="yellow", highlight=False)


def _table(experts: Experts, groups: Sequence[TokenGroup], part: str) -> Table:
    numbers = _columns([str(expert) for expert in range(experts.experts)])
    weights = "weight of expert, %" if experts.experts > _NAMED else numbers
    columns = ["layer", "tasks", "tokens", weights, "entropy", "top-1", "dropped"]
    rows = [(gate, group) for gate in gates_of(groups) if gate[0] == part for group in groups if gate in group.by_gate]
    unserved = any(group.by_gate[gate].unserved for gate, group in rows)
    table = Table(
        box=SIMPLE,
        pad_edge=False,
        title=f"{part}: mean weight of each expert in % ({experts.condition}, {experts.k} of {experts.experts})",
        caption="entropy of the probabilities in nats; top-1: mean probability of the likeliest expert",
    )
    for name in [*columns, *(["unserved"] if unserved else [])]:
        table.add_column(name, no_wrap=True)
    previous = None
    for gate, group in rows:
        figures = group.by_gate[gate]
        if previous not in (None, gate):
            table.add_section()
        layer = f"{gate[2]} (gate {gate[1]})" if gate[1] else str(gate[2])
        table.add_row(
            "" if previous == gate else layer,
            shortened(", ".join(group.tasks), _WIDEST),
            group.tokens,
            _weights(figures),
            f"{figures.entropy:.2f}",
            f"{figures.top1:.2f}",
            f"{100 * figures.drop_rate:.1f}",
            *([f"{100 * figures.unserved:.1f}"] if unserved else []),
        )
        previous = gate
    return table


def _weights(figures: GateFigures) -> str:
    """Per cents of all experts, or the largest of many."""
    weight = figures.weight
    if len(weight) <= _NAMED:
        return _columns(["·" if not share else f"{100 * share:.0f}" for share in weight])
    order = sorted(range(len(weight)), key=lambda expert: -weight[expert])
    return " ".join(f"{expert}:{100 * weight[expert]:.0f}" for expert in order[:8] if weight[expert])


def _columns(texts: Sequence[str]) -> str:
    return "".join(f"{text:>4}" for text in texts)


def write_picture(experts: Experts, run: Path, path: Path) -> None:
    """Write the figures of the experts as a page of their own.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        write_text(path, render_run(RunReport(title=f"uniperceiver: {run.name}", experts=experts)))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); name another file with --picture") from None
