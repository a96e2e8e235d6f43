"""A recipe's numbers reach what trains: early and late sizes of each task, how they take turns, seeds, losses."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.small_run import same_tensors, small_recipe
from tests.tiny import tiny_codec
from uniperceiver.config import LateConfig
from uniperceiver.data.tasks import open_tasks
from uniperceiver.runs.interference.callback import InterferenceCallback
from uniperceiver.runs.prepare import prepare_run
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


def test_seed_and_losses_of_a_recipe_reach_everything_that_draws_and_everything_that_is_added_up(
    tmp_path: Path,
) -> None:
    balance = {"switch": 0.2, "z": 0.3, "global_entropy": 0.1, "least_experts": 2.5}
    changes = {
        "moe": {"condition": "token", "experts": 3, "balance": balance},
        "candidates__sample": 7,
        "balance__method": "random_weights",
        "interference__watch": True,
        "interference__parameters": "head.linear.weight",
    }
    one, other = (
        prepare_run(small_recipe(("colours", "words"), seed=seed, **changes), tmp_path, tmp_path / "run", quiet=True)
        for seed in (3, 4)
    )
    watch = one.callbacks.gradients
    assert isinstance(watch, InterferenceCallback)
    seeds = [one.mixture.seed, one.objective.seed, one.state.method.seed, watch._gradients._seed]  # type: ignore[attr-defined]
    assert seeds == [3] * 4
    assert not same_tensors(one.state.model.state_dict(), other.state.model.state_dict())
    assert (one.objective.sample, one.objective.least_experts) == (7, 2.5)
    assert {name: value for name, value in one.objective.balance.items() if value} == {
        "switch": 0.2,
        "z": 0.3,
        "global_entropy": 0.1,
    }
