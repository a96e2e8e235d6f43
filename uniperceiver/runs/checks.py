"""What is wrong with a recipe, said before any data are decoded and any weight is trained."""

from collections.abc import Iterable, Mapping
from typing import Any

from uniperceiver.config import Recipe
from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture
from uniperceiver.moe.conditions import CONDITIONS, OfValues, condition_of
from uniperceiver.moe.settings import MoE
from uniperceiver.runs.architecture import moe_of
from uniperceiver.tasks.task import Task


def check_section(values: Mapping[str, Any], where: str) -> None:
    """A `moe` section must say its condition: without one there are no experts, whatever else it says.

    `condition: shared` is the way to say that the rest is not wanted now, as when a dense model is compared.

    Raises:
        UserError: it does not.
    """
    section, tune = values.get("moe"), values.get("tune")
    if isinstance(tune, Mapping) and tune.get("method"):
        return  # the experts are those of the model that is tuned
    if isinstance(section, Mapping) and section and "condition" not in section:
        names = ", ".join(CONDITIONS)
        raise UserError(
            f"{where}: moe.{next(iter(section))} has no effect without moe.condition; add one of {names}, or "
            "moe.condition=shared for a dense model"
        )


def check_experts(recipe: Recipe, tasks: Iterable[Task]) -> None:
    """The experts that the recipe asks for must be possible, and leave its causal tasks causal.

    Raises:
        UserError: they are not, or do not.
    """
    moe = moe_of(recipe.model, recipe.moe, len(recipe.tasks))
    if moe is not None:
        check_causal(moe, tasks)


def check_causal(moe: MoE, tasks: Iterable[Task]) -> None:
    """Refuse routing by which a word would know of the words after it, where there is a task that writes.

    Raises:
        UserError: there is one; its name is said.
    """
    condition = condition_of(moe.condition)
    key = "moe.capacity" if moe.capacity else ""
    if isinstance(condition, OfValues) and condition.experts_choose:
        key = f"moe.condition={moe.condition}"
    writing = next((task.name for task in tasks if task.answer.causal), None)
    if key and writing is not None:
        mend = "remove moe.capacity" if key == "moe.capacity" else "use moe.condition=token"
        raise UserError(
            f"{key}: cannot be used with task {writing!r}, which writes word after word: what is chosen for a word "
            f"would depend on the words after it; {mend}, or leave the task out"
        )


def notes_on(arch: Architecture) -> list[str]:
    """What a user of this model should be told before figures are made."""
    if arch.moe is None or not arch.moe.capacity:
        return []
    return [
        "moe.capacity: an expert that is full leaves tokens out, so figures depend on which samples share a batch "
        "and on its size"
    ]
