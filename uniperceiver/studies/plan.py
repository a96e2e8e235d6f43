"""STUDY.yaml -> CELLS: every arm with every seed, its recipe read and checked before the first one is trained."""

import copy
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, PositiveInt

from uniperceiver.config import Recipe, parse_recipe
from uniperceiver.data.tasks import TaskData, open_tasks
from uniperceiver.errors import UserError, nearest
from uniperceiver.own_code import import_code
from uniperceiver.runs.architecture import architecture, moe_of
from uniperceiver.runs.checks.recipe import check_recipe
from uniperceiver.runs.checks.sizes import check_sizes
from uniperceiver.strict import parse, read_yaml, record

_NAME = re.compile(r"[\w+=,-][\w+=,.-]*")  # an arm's name is a folder's
_WORDS = 1000  # of a vocabulary that is not known yet


@record
class StudyConfig:
    """A study: one recipe trained in several ways, each with several seeds."""

    recipe: str = Field(min_length=1)
    """The recipe that all arms start from; a relative path starts at the folder of the study's file."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Keys of the recipe (dotted, as on the command line) with the values that they have in all arms."""
    arms: dict[str, dict[str, Any] | None] = Field(default_factory=dict)
    """Arms by name, each with the keys that are its own; `tasks: [a, b]` keeps only these tasks."""
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    """Keys with lists of values: every combination is an arm, named after its values; with `arms`, each of those in
    every combination."""
    seeds: Annotated[list[int], Field(min_length=1)] | PositiveInt = 3
    """The seeds that each arm is trained with; a number n is 0 to n - 1."""
    processes: PositiveInt = 1
    """Runs that are trained at the same time."""
    launch: list[str] = Field(default_factory=list)
    """Words in front of the command of each run, which train it elsewhere: [srun, --exclusive, -n1, --gpus=1]."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of each run; 0: as the recipe says."""
    baseline: str | None = None
    """The arm whose tasks share everything: the gap begins there, and training times are relative to it."""
    reference: str | None = None
    """The arm whose tasks share nothing: the gap ends there."""
    single: str | dict[str, str] | None = None
    """The arm, or for each task the arm, that Δ_MTL compares with: that of the single-task runs."""
    measure: str | dict[str, str] = "loss"
    """The metric by which all tasks, or each task, are judged first."""


@dataclass(frozen=True, kw_only=True)
class StudyCell:
    """A run of a study: an arm with a seed."""

    arm: str
    seed: int
    overrides: Mapping[str, str]  # key=value of its command
    recipe: Recipe
    folder: Path  # of the run; beside it FOLDER.json, its figures, and FOLDER.log, what it said


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """A study that can be run: its cells, with their recipes read."""

    path: Path
    config: StudyConfig
    recipe: Path
    cells: tuple[StudyCell, ...]  # seed after seed, so that every arm has a figure early

    @property
    def arms(self) -> list[str]:
        """The names of the arms, in the order of the file."""
        return list(dict.fromkeys(cell.arm for cell in self.cells))

    @property
    def tasks(self) -> list[str]:
        """The tasks of all arms."""
        return list(dict.fromkeys(task for cell in self.cells for task in cell.recipe.tasks))


def read_plan(path: Path, out: Path, *, open_data: bool = True) -> StudyPlan:
    """Read the cells of a study, which are to be trained below `out`.

    Args:
        open_data: also check what can only be said of a recipe when its data are opened.

    Raises:
        UserError: the study, a key of an arm or a recipe that comes of it is wrong.
    """
    config = parse(StudyConfig, read_yaml(path), str(path))
    recipe = (path.parent / config.recipe).resolve()
    values = read_yaml(recipe)
    points = dict(_points(config, path))
    seeds = _seeds(config, path)
    cells = {
        name: [_cell(name, seed, values, config, own, recipe, out) for seed in seeds] for name, own in points.items()
    }
    plan = StudyPlan(
        path=path,
        config=config,
        recipe=recipe,
        cells=tuple(itertools.chain.from_iterable(zip(*cells.values(), strict=True))),
    )
    _check_roles(plan)
    if open_data:
        _check_recipes(plan)
    return plan


def _seeds(config: StudyConfig, path: Path) -> list[int]:
    seeds = list(range(config.seeds)) if isinstance(config.seeds, int) else config.seeds
    if len(set(seeds)) < len(seeds):
        raise UserError(f"{path}: seeds: {seeds} names a seed twice; every seed is one run of an arm")
    return seeds


def _points(config: StudyConfig, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each arm's name and own keys."""
    if not config.arms and not config.grid:
        raise UserError(f"{path}: no arms; add arms: {{NAME: {{key: value}}}}, or grid: {{key: [value, value]}}")
    seen = set()
    for arm, own in (config.arms or {"": None}).items():
        for values in itertools.product(*config.grid.values()):
            point = dict(zip(config.grid, values, strict=True))
            name = ",".join(filter(None, [arm, *(_name_of(key, value) for key, value in point.items())]))
            if not _NAME.fullmatch(name):
                raise UserError(f"{path}: arm {name!r}: a name is made of letters, digits and _ + = , . -; rename it")
            if name in seen:
                raise UserError(f"{path}: two arms are named {name!r}; rename one, or remove a value of the grid")
            twice = next((key for key in point if key in (own or {})), None)
            if twice is not None:
                raise UserError(f"{path}: arms.{arm}.{twice}: the grid sets it, too; remove it from one of them")
            seen.add(name)
            yield name, {**(own or {}), **point}


def _name_of(key: str, value: Any) -> str:
    """A word is its own name, a number has that of its key before it: attribute, lr=0.001."""
    text = re.sub(r"[^\w+=,.-]+", "_", _text(value)).strip("_")
    return text if isinstance(value, str) and not text[:1].isdigit() else f"{key.rsplit('.', 1)[-1]}={text}"


def _text(value: Any) -> str:
    """A value as key=value has it."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**9, sort_keys=False).removesuffix("...\n").strip()


def _cell(
    name: str, seed: int, values: dict[str, Any], config: StudyConfig, own: dict[str, Any], recipe: Path, out: Path
) -> StudyCell:
    where = f"{recipe} in arm {name!r}"
    parts = _parts(config, own, values.get("tasks"), where)
    for key, there in (("seed", "seeds"), ("threads", "threads")):
        if key in parts:
            raise UserError(f"{where}: {key} is a key of the study itself; write {there}: there")
    parts |= {"seed": seed} | ({"threads": config.threads} if config.threads else {})
    overrides = {key: _text(value) for key, value in parts.items()}
    return StudyCell(
        arm=name,
        seed=seed,
        overrides=overrides,
        recipe=parse_recipe(copy.deepcopy(values), overrides, where),
        folder=out / "cells" / name / f"seed-{seed}",
    )


def _parts(config: StudyConfig, own: dict[str, Any], tasks: Any, where: str) -> dict[str, Any]:
    """The keys of an arm with their values: the tasks it keeps, what all arms have, and last what is its own."""
    parts: dict[str, Any] = {}
    common, own = dict(config.set), dict(own)
    names = own.get("tasks", common.get("tasks"))
    if isinstance(names, list) and isinstance(tasks, Mapping):
        kept = _kept_tasks(names, tasks, where)
        common.pop("tasks", None)
        own.pop("tasks", None)
        parts["tasks"] = kept
        for key in [*common, *own]:
            task = key.split(".")[1] if key.startswith("tasks.") else None
            if task is None or task in kept:
                continue
            if key in own:
                raise UserError(f"{where}: {key}: the arm has only the tasks {', '.join(kept)}; remove the key")
            common.pop(key, None)
    return {**parts, **{key: value for key, value in common.items() if key not in own}, **own}


def _kept_tasks(kept: list[Any], tasks: Mapping[str, Any], where: str) -> dict[str, Any]:
    for task in kept:
        if task not in tasks:
            raise UserError(f"{where}: tasks: no task {task!r}; {nearest(task, tasks)}")
    return {task: tasks[task] for task in tasks if task in kept}


def _check_roles(plan: StudyPlan) -> None:
    """Arms and tasks that the study names must be there."""
    config, arms = plan.config, plan.arms
    singles = config.single if isinstance(config.single, dict) else {"": config.single} if config.single else {}
    roles = {"baseline": config.baseline, "reference": config.reference}
    roles |= {f"single.{task}".rstrip("."): arm for task, arm in singles.items()}
    for key, arm in roles.items():
        if arm is not None and arm not in arms:
            raise UserError(f"{plan.path}: {key}: no arm {arm!r}; {nearest(arm, arms)}")
    if config.reference is not None and config.baseline is None:
        raise UserError(f"{plan.path}: reference: a gap needs two ends; add baseline: NAME")
    measured = config.measure if isinstance(config.measure, dict) else {}
    for key, names in (("single", singles), ("measure", measured)):
        for task in filter(None, names):
            if task not in plan.tasks:
                raise UserError(f"{plan.path}: {key}.{task}: no such task; {nearest(task, plan.tasks)}")


def _check_recipes(plan: StudyPlan) -> None:
    """What training would refuse is refused now, as far as it can be said without reading data or making a model."""
    opened: dict[str, list[TaskData]] = {}
    for cell in plan.cells:
        key = repr((cell.recipe.tasks, cell.recipe.data))
        try:
            import_code(cell.recipe.imports, plan.recipe.parent)
            if key not in opened:
                opened[key] = open_tasks(cell.recipe, plan.recipe.parent)
            _check(cell.recipe, opened[key])
        except UserError as error:
            raise UserError(f"{plan.path}: arm {cell.arm!r}: {error}") from None


def _check(recipe: Recipe, tasks: list[TaskData]) -> None:
    check_recipe(recipe, tasks, moe_of(recipe.model, recipe.moe, len(recipe.tasks)))
    if recipe.model.start is None:
        words = recipe.model.vocabulary if isinstance(recipe.model.vocabulary, int) else _WORDS
        arch = architecture(recipe.model, recipe.moe, tasks=len(tasks), vocabulary=words, end=0, answer=1)
        check_sizes(recipe, tasks, arch)
