"""Runs of several processes beside those of one: every condition of routing, by replicas, FSDP2 and HSDP."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tests import processes
from tests.process_scenarios import CONDITIONS, READING, TASKS, recipe_of, routed, trained
from tests.regions_run import region_values
from tests.small_run import log_lines, small_recipe, train
from tests.tuned import tuning
from uniperceiver import Recipe
from uniperceiver.parallel.world import World
from uniperceiver.strict import parse

STEPS = 10
WRAPPERS = {"replicas": (2, 1), "FSDP2": (2, 0), "FSDP2 of four": (4, 0), "HSDP": (4, 2)}
"""Processes, and how many of them share one copy."""
SECONDS = 600
_TOLERANCE = 1e-5
_AFTER_A_FLIP = (
    1e-3  # where experts are as good as equal for a token, the last digit decides, and the next steps differ
)
_ROUTED_BY_VALUE = ("token", "context", "expert_choice")
_STEPS_OF_MANY = {"sampling__tasks_per_step": 4, "optimiser__warmup": 0, "optimiser__lr": 1e-3}


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """How far a run of several processes is from that of one."""

    loss: float  # largest relative difference of a loss in any step
    norm: float  # of a norm of gradients
    same_unused: bool  # whether the same parameters have no gradient, and no moments
    good: bool


def likeness(folder: Path, recipe: Recipe, wrapper: str, tolerance: float = _TOLERANCE) -> Likeness:
    """Train the recipe on one process and on several."""
    size, shard = WRAPPERS[wrapper]
    several = replace(recipe, parallel=replace(recipe.parallel, shard=shard))
    one = trained(World(), folder / "one", recipe)
    results = processes.run(
        size, lambda world: trained(world, folder / "several", several), folder / "results", SECONDS
    )
    lines = list(zip(log_lines(folder / "several", "train"), log_lines(folder / "one", "train"), strict=True))
    assert len(lines) == recipe.steps
    loss = max(_difference(ours[key], line[key]) for ours, line in lines for key in line if key.endswith("loss"))
    norm = max(_difference(ours["grad_norm"], line["grad_norm"]) for ours, line in lines)
    same = all(result[key] == one[key] for result in results for key in ("without", "moments", "counters"))
    return Likeness(loss=loss, norm=norm, same_unused=same, good=same and loss <= tolerance)


def _difference(ours: float, expected: float) -> float:
    return abs(ours - expected) / max(abs(expected), 1e-12)


def cells(folder: Path) -> Iterator[tuple[str, Callable[[], Likeness]]]:
    """The runs by name."""
    for condition in CONDITIONS:
        tasks = READING if condition == "expert_choice" else TASKS
        balance = {"moe__balance__bias_rate": 1e-3, "moe__balance__switch": 0.01} if condition == "token" else {}
        recipe = recipe_of(tasks, steps=STEPS, model__layers=2, **routed(condition, **balance))
        tolerance = _AFTER_A_FLIP if condition in _ROUTED_BY_VALUE else _TOLERANCE
        for wrapper in WRAPPERS:
            name = f"{condition}, {wrapper}"
            yield name, partial(likeness, folder / name, recipe, wrapper, tolerance)
    changes: dict[str, Any] = {"steps": STEPS, **_STEPS_OF_MANY}
    of_regions = parse(
        Recipe, region_values(("boxes", "shapes", "colours", "captions"), **changes), "recipe of regions"
    )
    recomputed = routed("attribute", optimiser__recompute=True)
    others: dict[str, Callable[[Path], Recipe]] = {
        "regions": lambda place: of_regions,
        "tuned": partial(_tuned, method="full"),
        "tuned by prompts": partial(_tuned, method="prompt"),
        "compiled": lambda place: recipe_of(steps=STEPS, optimiser__compile=True, **routed("attribute")),
        "recomputed": lambda place: recipe_of(steps=STEPS, model__layers=2, **recomputed),
    }
    for name, make in others.items():
        for wrapper in ("replicas", "FSDP2"):
            if name in ("tuned by prompts", "compiled") and wrapper != "replicas":
                continue  # refused
            place = folder / f"{name}, {wrapper}"
            yield place.name, lambda place=place, make=make, wrapper=wrapper: likeness(place, make(place), wrapper)  # type: ignore[misc]


def _tuned(place: Path, *, method: str) -> Recipe:
    begun = small_recipe(("colours", "captions"), steps=2, **routed("attribute"))
    train(place / "start", begun)
    return tuning(place / "start", "colours", method=method, steps=STEPS, **_STEPS_OF_MANY)
