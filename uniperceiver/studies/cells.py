"""CELL -> FILE: what one run of a study came to, as JSON beside the folder of the run."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Literal

from safetensors import safe_open

from uniperceiver.atomic import write_text
from uniperceiver.config import Recipe
from uniperceiver.errors import UserError
from uniperceiver.runs.folder import check_same_run, saved_recipe
from uniperceiver.strict import flat, parse, to_json
from uniperceiver.studies.plan import StudyCell
from uniperceiver.training.checkpoint import list_checkpoints, read_state
from uniperceiver.training.log import read_log

_LINES = 20  # of a failed run that are kept
# Sections of a recipe that leave every figure as it is.
_NO_MATTER = ("device", "threads", "checkpoint.", "log.", "data.workers", "parallel.")
_PAUSE = 5  # times the usual time of a step: the run was stopped meanwhile, or waited for something


@dataclass(frozen=True, kw_only=True)
class CellOutcome:
    """What a cell that has ended came to: its figures, or why it failed."""

    arm: str
    seed: int
    state: Literal["done", "failed"]
    exit_code: int
    overrides: Mapping[str, str]
    recipe: Recipe
    results: Mapping[str, Mapping[str, Mapping[str, float]]]  # task -> split -> metric -> value
    steps: int = 0
    step_seconds: float | None = None  # of training, without evaluations and pauses; None: too short to say
    parameters: int | None = None
    last_lines: tuple[str, ...] = ()  # of what a failed run said
    data: Mapping[str, Any] = field(default_factory=dict)  # what its last checkpoint says of its data, by task


def beside(cell: StudyCell, suffix: str) -> Path:
    """A file of the cell beside the folder of its run."""
    return cell.folder.with_name(cell.folder.name + suffix)


def finished(cell: StudyCell) -> CellOutcome | None:
    """What the cell came to when it was trained with this recipe; None where it is still to be trained or measured.

    Raises:
        UserError: the run there, or its figures, are of another recipe; another process is training there.
    """
    before = _read(cell)
    if (cell.folder / "recipe.yaml").is_file():
        check_same_run(cell.recipe, cell.folder)
        steps = saved_recipe(cell.folder)[0].steps
        if steps != cell.recipe.steps:  # not the run it would have been: its learning rate has come down already
            _refuse(cell.folder, "steps", steps, cell.recipe.steps)
    elif before is not None and before.state == "done":
        _refuse_other(before.recipe, cell)
    if before is None or before.state == "failed" or _figures_of(before.recipe) != _figures_of(cell.recipe):
        return None
    return before


def _refuse_other(before: Recipe, cell: StudyCell) -> None:
    """Figures whose run is gone must not be written over by those of another recipe."""
    old, new = _figures_of(before), _figures_of(cell.recipe)
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            _refuse(beside(cell, ".json"), key, old.get(key), new.get(key))


def _refuse(path: Path, key: str, old: Any, new: Any) -> None:
    raise UserError(
        f"{path}: was made with {key}={old!r}, the study says {new!r}; use another --out, or remove the files of the "
        "cell to train it anew"
    )


def _figures_of(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe may change a figure, by dotted keys."""
    values = flat(json.loads(to_json(dataclasses.asdict(recipe))))
    return {key: value for key, value in values.items() if not key.startswith(_NO_MATTER)}


def reported(cell: StudyCell) -> CellOutcome | None:
    """What was written of the cell, to be shown; None where there is nothing yet.

    Raises:
        UserError: it is of another recipe than the study's.
    """
    outcome = _read(cell)
    if outcome is not None and outcome.state == "done":
        _refuse_other(outcome.recipe, cell)
    return outcome


def _read(cell: StudyCell) -> CellOutcome | None:
    path = beside(cell, ".json")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        recipe = parse(Recipe, values["recipe"], str(path))
        return CellOutcome(**{**values, "recipe": recipe, "last_lines": tuple(values["last_lines"])})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: is no file that study wrote; remove it, and the cell is measured again") from None


def write_outcome(cell: StudyCell, exit_code: int) -> CellOutcome:
    """Write what a run that has just ended came to."""
    outcome = _outcome(cell, exit_code)
    write_text(beside(cell, ".json"), to_json(dataclasses.asdict(outcome), indent=1) + "\n")
    return outcome


def _outcome(cell: StudyCell, exit_code: int) -> CellOutcome:
    results = cell.folder / "results.json"
    done = exit_code == 0 and results.is_file()
    return CellOutcome(
        arm=cell.arm,
        seed=cell.seed,
        state="done" if done else "failed",
        exit_code=exit_code,
        overrides=cell.overrides,
        recipe=cell.recipe,
        results=json.loads(results.read_text(encoding="utf-8"))["tasks"] if done else {},
        steps=cell.recipe.steps if done else 0,
        step_seconds=step_seconds(read_log(cell.folder)) if done else None,
        parameters=_parameters(cell.folder / "model") if done else None,
        last_lines=() if done else tuple(_last_lines(beside(cell, ".log"))),
        data=_data(cell.folder / "checkpoints"),
    )


def _data(checkpoints: Path) -> Mapping[str, Any]:
    """What the newest checkpoint says of the data that it was trained on; nothing where that cannot be had."""
    for path in reversed(list_checkpoints(checkpoints)):
        with suppress(UserError):
            facts: Mapping[str, Any] = read_state(path).get("data", {})
            return facts
    return {}


def other_data(outcomes: Sequence[CellOutcome]) -> list[str]:
    """Lines about cells that were trained on other data than those before them, though their recipes say the same."""
    first: dict[str, tuple[CellOutcome, Any]] = {}
    lines = []
    for outcome in outcomes:
        recipe = outcome.recipe
        for task, facts in outcome.data.items():
            share = (recipe.tune.fraction, recipe.seed if recipe.tune.fraction < 1 else 0)
            former, before = first.setdefault(repr((task, recipe.tasks.get(task), share)), (outcome, facts))
            if before != facts:
                lines.append(
                    f"{outcome.arm}, seed {outcome.seed}: its data of task {task!r} were others than those of "
                    f"{former.arm}, seed {former.seed}; remove the files of one of them to train it anew"
                )
    return lines


def step_seconds(log: Sequence[Mapping[str, Any]]) -> float | None:
    """Mean time of a training step: between lines of training with no evaluation and no pause between them."""
    seconds, steps = [], []
    for before, after in pairwise(line for line in log if line.get("event") in ("train", "evaluate")):
        if before["event"] == after["event"] == "train" and after["step"] > before["step"]:
            seconds.append(after["time"] - before["time"])
            steps.append(after["step"] - before["step"])
    if not steps:
        return None
    usual = median(time / count for time, count in zip(seconds, steps, strict=True))
    kept = [(time, count) for time, count in zip(seconds, steps, strict=True) if time <= _PAUSE * usual * count]
    return sum(time for time, _ in kept) / sum(count for _, count in kept)


def _parameters(folder: Path) -> int | None:
    """How many numbers the weights of a saved model are; no weights are read."""
    count = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                count += math.prod(file.get_slice(name).get_shape())
    return count or None


def _last_lines(path: Path) -> list[str]:
    """The end of what a run said, without the lines of a traceback that only point."""
    if not path.is_file():
        return []
    text = path.read_bytes()[-20_000:].decode("utf-8", "replace")
    return [line.rstrip() for line in text.replace("\r", "\n").split("\n") if line.strip(" ^~")][-_LINES:]
