"""What is wrong with how the tasks of a recipe take turns: shapes, budgets of tokens, learning rates of tasks."""

from collections.abc import Sequence
from itertools import chain

from uniperceiver.config import Recipe, TaskConfig
from uniperceiver.data.tasks import TaskData
from uniperceiver.errors import UserError

_OF_SOUNDS = ("seconds", "hop")
_LATE = ("size", "frames", "batch", "weight")  # keys of `late`


def check_turns(recipe: Recipe, tasks: Sequence[TaskData]) -> None:
    """Refuse keys that contradict each other, or have no effect.

    Raises:
        UserError: the key is said.
    """
    for data in tasks:
        where, config = f"tasks.{data.task.name}", data.config
        if config.shapes and (late := next((key for key in _LATE if getattr(config.late, key)), None)) is not None:
            raise UserError(f"{where}.shapes: a task with shapes has no late ones; remove shapes, or late.{late}")
        _refuse_senseless(data, where)
        if recipe.sampling.tokens:
            batches = {"batch": config.batch != TaskConfig.batch, "late.batch": config.late.batch is not None}
            for own in (key for key, is_given in batches.items() if is_given):
                raise UserError(
                    f"{where}.{own}: sampling.tokens says how many samples a batch has; remove one of the two keys (a "
                    "shape may have a batch of its own)"
                )
        if config.lr != 1 and (key := _mixing(recipe)) is not None:
            raise UserError(
                f"{where}.lr: is for steps of one task, and with {key} they have several; remove one of the two keys"
            )
    if recipe.model.start is None and recipe.model.max_text % recipe.sampling.round:
        raise UserError(
            f"sampling.round: model.max_text {recipe.model.max_text} is no multiple of {recipe.sampling.round}, so the "
            "longest texts would have no positions; change one of them"
        )


def _refuse_senseless(data: TaskData, where: str) -> None:
    """Refuse sizes of pictures, clips and sounds in a shape, or a length of sounds, where the task has none of them.

    Raises:
        UserError: the key is said.
    """
    task, config = data.task, data.config
    for keys, is_read, noun in (
        (("size",), task.visual is not None, "pictures or clips"),
        (("frames", "stride"), "video" in task.modalities, "clips"),
        (_OF_SOUNDS, task.hears, "sounds"),
    ):
        if is_read:
            continue
        own = (key for key in keys if key in _OF_SOUNDS and getattr(config, key) != getattr(TaskConfig, key))
        of_shapes = (
            f"shapes[{number}].{key}"
            for number, shape in enumerate(config.shapes)
            for key in keys
            if getattr(shape, key) is not None
        )
        if (senseless := next(chain(own, of_shapes), None)) is not None:
            raise UserError(f"{where}.{senseless}: the task reads no {noun}; remove the key")


def _mixing(recipe: Recipe) -> str | None:
    """The key by which a step has batches of several tasks; None: it has those of one."""
    if recipe.balance.window > 1:
        return "balance.window"
    if recipe.sampling.mode == "mixed" and recipe.sampling.tasks_per_step > 1:
        return "sampling.mode=mixed"
    return None
