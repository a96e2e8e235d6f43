"""A recipe's numbers reach the mixture: early and late sizes of each task, how they take turns."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.small_run import small_recipe
from tests.tiny import tiny_codec
from uniperceiver.config import LateConfig
from uniperceiver.data.tasks import open_tasks
from uniperceiver.runs.training import mixture_of

EARLY = {"size": 32, "frames": 2, "batch": 3}


@pytest.mark.parametrize(
    ("late", "expected"),
    [
        ({}, (32, 2, 3)),
        ({"size": 48}, (48, 2, 3)),
        ({"frames": 4}, (32, 4, 3)),
        ({"batch": 1}, (32, 2, 1)),
        ({"size": 16, "frames": 1, "batch": 2}, (16, 1, 2)),
    ],
)
def test_late_sizes_take_the_place_of_early_ones(late: dict[str, int], expected: tuple[int, int, int]) -> None:
    recipe = small_recipe(("clip_captions", "colours"), steps=11, late_from=0.7)
    tasks = {**recipe.tasks, "clip_captions": replace(recipe.tasks["clip_captions"], late=LateConfig(**late), **EARLY)}
    recipe = replace(recipe, tasks=tasks)
    mixture = mixture_of(recipe, open_tasks(recipe, Path()), tiny_codec())
    stages = mixture.sets[0].stages
    assert [stage.begins for stage in stages] == [0, 8]
    found = [(stage.preprocess.size, stage.preprocess.frames, stage.batch) for stage in stages]
    assert found == [(32, 2, 3), expected]
    assert mixture.sets[1].stages[0].batch == mixture.sets[1].stages[1].batch


def test_a_late_weight_takes_the_place_of_the_early_one() -> None:
    recipe = small_recipe(("colours", "captions"), steps=10, late_from=0.5)
    colours = replace(recipe.tasks["colours"], weight=3.0, late=LateConfig(weight=0.5))
    recipe = replace(recipe, tasks={**recipe.tasks, "colours": colours})
    mixture = mixture_of(recipe, open_tasks(recipe, Path()), tiny_codec())
    assert [[stage.weight for stage in tasks.stages] for tasks in mixture.sets] == [[3.0, 0.5], [1.0, 1.0]]
    assert [stage.begins for stage in mixture.sets[0].stages] == [0, 5]
