"""Merging a saved model: which of its tasks, what they need, and what came of it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from uniperceiver.errors import UserError, nearest
from uniperceiver.model.merge import MergedSize, Merging, merge_model
from uniperceiver.records import Segment
from uniperceiver.serving.saved import SavedModel
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
    wanted = list(saved.tasks) if tasks is None else [tasks] if isinstance(tasks, str | Task) else list(tasks)
    if not wanted:
        raise UserError("merge: no task to merge for; name some of the run's, or give Tasks")
    needs: dict[str, tuple[Segment, ...]] = {}
    for each in wanted:
        name = each if isinstance(each, str) else each.name
        needs[name] = (*needs.get(name, ()), *_segments(saved, each))
    merging = merge_model(saved.model, saved.arch, needs)
    return MergedModel(saved=replace(saved, model=merging.model, arch=merging.arch, base=None), merging=merging)


def _segments(saved: SavedModel, task: str | Task) -> tuple[Segment, ...]:
    if isinstance(task, Task):
        return task.segments()
    if task not in saved.tasks:
        raise UserError(f"merge: unknown task {task!r}; {nearest(task, saved.tasks)}")
    known = saved.tasks[task]
    return known.task.segments(known.index)


def note(size: MergedSize, routed: MergedSize) -> str:
    """One line where merging saves no memory; empty where it does."""
    if size.rows < routed.rows:
        return ""
    amount = "as many rows as" if size.rows == routed.rows else "more rows than"
    return f"{amount} experts ({routed.rows}): no smaller than the model with experts, only faster"
