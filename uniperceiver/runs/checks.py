"""What is wrong with a recipe, said before any data are decoded and any weight is trained."""

from collections.abc import Iterable

from uniperceiver.config import Recipe
from uniperceiver.errors import UserError
from uniperceiver.moe.conditions import OfValues, condition_of
from uniperceiver.moe.settings import MoE
from uniperceiver.runs.architecture import moe_of
from uniperceiver.tasks.task import Task


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
    writing = next((task.name for task in tasks if task.read_at == "next"), None)
    if key and writing is not None:
        mend = "remove moe.capacity" if key == "moe.capacity" else "use moe.condition=token"
        raise UserError(
            f"{key}: cannot be used with task {writing!r}, which writes word after word: what is chosen for a word "
            f"would depend on the words after it; {mend}, or leave the task out"
        )
