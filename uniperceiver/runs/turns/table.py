"""RECIPE -> TABLE OF TURNS: what `uniperceiver info RECIPE` tells before anything is trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uniperceiver.config import read_recipe
from uniperceiver.data.turns import turns_at
from uniperceiver.runs.plan.plan import planned_run

_SHARES = ("steps", "share")


def turns_of_recipe(path: Path) -> dict[str, Any]:
    """The turns of a recipe's first step and, where others come later, of its last, as plain values.

    Raises:
        UserError: as training of the recipe.
    """
    recipe = read_recipe(path)
    run = planned_run(recipe, path.parent)
    first, last = (
        [
            {
                "task": turn.task,
                "shape": turn.shape,
                "tokens": turn.tokens,
                "batch": turn.batch,
                "steps": round(turn.steps, 4),
                "share": round(turn.share, 4),
            }
            for turn in turns_at(run.mixture, step)
        ]
        for step in (0, recipe.steps - 1)
    )
    return {
        "recipe": str(path),
        "steps": recipe.steps,
        "batches of a step": run.mixture.batches_per_step,
        "turns": first,
        **({} if first == last else {"late turns": last}),
    }


def turns_as_text(facts: Mapping[str, Any]) -> list[str]:
    """The same as lines: a table of the turns."""
    lines = [f"{facts['recipe']}: {facts['steps']:,} steps of {facts['batches of a step']} batches"]
    for name in ("turns", "late turns"):
        if name not in facts:
            continue
        head = ("task", "shape", "tokens", "batch", "steps", "tokens' share")
        rows = [head, *(tuple(_written(key, value) for key, value in row.items()) for row in facts[name])]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines += ["", *([] if name == "turns" else ["at the end:"])]
        for row in rows:
            cells = [
                cell.ljust(width) if column < 2 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
    return lines


def _written(key: str, value: Any) -> str:
    """A cell of the table."""
    if key in _SHARES:
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else str(value)
