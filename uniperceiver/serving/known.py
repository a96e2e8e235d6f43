"""Which task a call is about: one of the model's own, one that is given, or one of the catalogue."""

from collections.abc import Callable
from dataclasses import replace

from uniperceiver.data.view import View
from uniperceiver.errors import UserError, nearest
from uniperceiver.serving.saved import KnownTask, SavedModel
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.task import Task


def known_task(saved: SavedModel, task: str | Task | None, kind: str) -> KnownTask:
    """The task asked for, or an anonymous one of that kind, with the preprocessing that fits it best.

    Raises:
        UserError: the model has no task of that name.
    """
    if isinstance(task, str):
        if task not in saved.tasks:
            raise UserError(f"unknown task {task!r}; {nearest(task, saved.tasks)}")
        return saved.tasks[task]
    wanted = CATALOGUE[kind] if task is None else task
    return KnownTask(task=wanted, index=None, view=_view_for(saved, wanted))


def fitting(
    saved: SavedModel, call: str, task: str | Task | None, kind: str, fits: Callable[[Task], bool]
) -> KnownTask:
    """As `known_task`, where the task must fit the call.

    Raises:
        UserError: it does not; those of the model that do are listed.
    """
    known = known_task(saved, task, kind)
    if not fits(known.task):
        names = ", ".join(name for name, each in saved.tasks.items() if fits(each.task))
        raise UserError(
            f"{call}: cannot be asked of task {known.task.name!r}; of this model's tasks: {names or '(none)'}"
        )
    return known


def sight(known: KnownTask) -> KnownTask:
    """A task with visual input, without what it reads behind the picture, such as a caption or a question."""
    seen = known.task.inputs[:1]  # visual input stands first
    task = replace(known.task, inputs=seen, read_at="summary", candidates="labels", labels=(), template=None)
    return replace(known, task=task)


def _view_for(saved: SavedModel, task: Task) -> View:
    """The preprocessing of the model's task that is most like this one."""
    alike = sorted(
        saved.tasks.values(),
        key=lambda known: (
            known.task.name != task.name,
            known.task.visual != task.visual,
            known.task.candidates != task.candidates,
            known.index or 0,
        ),
    )
    return alike[0].view if alike else View()
