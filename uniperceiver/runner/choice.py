"""Which exported task a call is about: one of the model's own, or what stands for it in a call without a task."""

from collections.abc import Callable
from typing import Any

from uniperceiver.errors import UserError, nearest
from uniperceiver.modalities import MODALITIES, TEXT
from uniperceiver.records.exported import Exported, ExportedTask


def asked_of(task: Any) -> str | None:
    """The name of a task, or None.

    Raises:
        UserError: something else, such as a Task, whose weights an export need not have.
    """
    if task is not None and not isinstance(task, str):
        raise UserError(f"task: a {type(task).__name__} is no task of an export; give the name of one")
    return task


def chosen(
    exported: Exported, call: str, task: str | None, about: str, fits: Callable[[ExportedTask], bool]
) -> ExportedTask:
    """The task of that name, or what a call about such inputs asks.

    Args:
        about: modalities, as the keys of `Exported.calls` have them behind the call.

    Raises:
        UserError: there is no such task, it does not fit the call, or the export does not answer such calls.
    """
    if task is not None:
        if task not in exported.tasks:
            raise UserError(f"unknown task {task!r}; {nearest(task, exported.tasks)}")
        asked = exported.tasks[task]
        if not fits(asked):
            names = ", ".join(name for name, other in exported.tasks.items() if fits(other))
            raise UserError(f"{call}: cannot be asked of task {task!r}; of this export's tasks: {names or '(none)'}")
        return asked
    default = exported.calls.get(f"{call} {about}")
    if isinstance(default, str):
        raise UserError(default)
    if default is None:
        names = ", ".join(name for name, other in exported.tasks.items() if fits(other))
        raise UserError(
            f"{call}: no task of the exported model answers this about {about.replace(' ', ' and ')}; of its tasks: "
            f"{names or '(none fits)'}"
        )
    return default


def graph_of(asked: ExportedTask, field: str, call: str) -> Any:
    """The files of a task's graphs, by the field that names them.

    Raises:
        UserError: there are none; the line says why.
    """
    files = getattr(asked, field)
    if files is None:
        reason = asked.refused.get(field, "it was not exported")
        raise UserError(f"{call}: task {asked.name!r}: {reason}")
    return files


def media_of(asked: ExportedTask) -> tuple[str, ...]:
    """The modalities among a task's inputs that are not text."""
    return tuple(modality for modality in asked.inputs if modality != TEXT)


def refuse_other_modality(call: str, asked: ExportedTask, named: str | None) -> None:
    """Refuse a `modality=` that the task does not look at.

    Raises:
        UserError: it does not.
    """
    if named is not None and named in MODALITIES and named != asked.inputs[0]:
        raise UserError(f"{call}: modality={named!r}, but task {asked.name!r} looks at {', '.join(asked.inputs)}")
