"""SAVED MODEL -> MERGED MODEL: for which of its tasks, what they need, and what that costs."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniperceiver.errors import UserError, nearest
from uniperceiver.model.merge import MergedSize, Merging, merge_model
from uniperceiver.records import Segment
from uniperceiver.serving import saved as files
from uniperceiver.serving.locate import model_folder
from uniperceiver.serving.saved import SavedModel
from uniperceiver.serving.values import as_list, shown
from uniperceiver.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class MergedModel:
    """A merged model with its tasks, and its sizes."""

    saved: SavedModel
    merging: Merging


def merge(saved: SavedModel, tasks: str | Task | Iterable[str | Task] | None = None) -> MergedModel:
    """A new model with the experts folded into plain weights, for tasks of the run or of one's own.

    It keeps the list of all tasks, as routing may look at their numbers.

    Args:
        tasks: names or Tasks; None: all that the model was trained on.

    Raises:
        UserError: an unknown task, none at all, or experts that cannot be merged.
    """
    chosen = list(saved.tasks) if tasks is None else [tasks] if isinstance(tasks, str | Task) else as_list(tasks)
    if wrong := [task for task in chosen if not isinstance(task, str | Task)]:
        raise UserError(f"merge: {shown(wrong[0])} is no task; give the name of one, or a Task")
    if not chosen:
        raise UserError("merge: no task to merge for; name some of the run's, or give Tasks")
    needs: dict[str, tuple[Segment, ...]] = {}
    for task in chosen:
        name = task if isinstance(task, str) else task.name
        needs[name] = (*needs.get(name, ()), *_segments(saved, task))
    merging = merge_model(saved.model, saved.arch, needs)
    return MergedModel(
        saved=dataclasses.replace(saved, model=merging.model, arch=merging.arch, base=None), merging=merging
    )


def _segments(saved: SavedModel, task: str | Task) -> tuple[Segment, ...]:
    if isinstance(task, Task):
        return task.segments()
    if task not in saved.tasks:
        raise UserError(f"merge: unknown task {task!r}; {nearest(task, saved.tasks)}")
    trained = saved.tasks[task]
    return trained.task.segments(trained.index)


def merge_run(
    path: Path,
    out: Path,
    tasks: Sequence[str] | None = None,
    saved: SavedModel | None = None,
    *,
    replace: bool = False,
) -> dict[str, Any]:
    """Save the merged model of a run or saved model in a folder of its own.

    Args:
        tasks: names of the run's tasks; None: all of them.
        saved: what is merged, where it is not the model in the folder but that of an earlier step.
        replace: whether another model in the folder `out` may be replaced.

    Returns:
        {"model", "routed", "tasks": {name: size}, "together"}; a size has "rows", "parameters" and, where merging
        saves no memory, a "note"; of the routed model, "rows" are its experts.

    Raises:
        UserError: there is no model, it cannot be merged, or the folder cannot be used.
    """
    folder = model_folder(path)
    if out.exists() and out.resolve() == folder.resolve():
        raise UserError(f"--out {out}: is the model itself, whose experts would be lost; give another folder")
    files.refuse_foreign(out)
    merged = merge(saved or files.load(folder), tasks)
    with files.replacing(out, merged.saved, replace=replace):
        files.save(out, merged.saved)
    sizes = merged.merging
    return {
        "model": str(out),
        "routed": {"rows": sizes.routed.rows, "parameters": sizes.routed.parameters},
        "tasks": {name: _described(size, sizes.routed) for name, size in sizes.alone.items()},
        "together": _described(sizes.together, sizes.routed),
    }


def _described(size: MergedSize, routed: MergedSize) -> dict[str, Any]:
    remark = note(size, routed)
    return {"rows": size.rows, "parameters": size.parameters, **({"note": remark} if remark else {})}


def note(size: MergedSize, routed: MergedSize) -> str:
    """One line where merging saves no memory; empty where it does."""
    if size.rows < routed.rows:
        return ""
    amount = "as many rows as" if size.rows == routed.rows else "more rows than"
    return f"{amount} experts ({routed.rows}): no smaller than the model with experts, only faster"


def as_text(report: dict[str, Any]) -> list[str]:
    """A table for people."""
    sizes = {
        "with experts": report["routed"],
        **{f"{name} alone": size for name, size in report["tasks"].items()},
        "all of them, as saved": report["together"],
    }
    width = max(map(len, sizes))
    lines = [f"{'':{width}}  {'rows':>4}  {'parameters':>13}"]
    for name, size in sizes.items():
        line = f"{name:{width}}  {size['rows']:>4}  {size['parameters']:>13,}"
        lines.append(f"{line}  {size['note']}" if "note" in size else line)
    return [*lines, f"model: {report['model']}"]
