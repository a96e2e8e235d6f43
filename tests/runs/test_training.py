"""A recipe's numbers reach what trains: early and late sizes of each task, how they take turns, seeds, losses."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.small_run import same_tensors, small_recipe
from tests.tiny import tiny_codec, tiny_model
from uniperceiver.config import LateConfig
from uniperceiver.data.batch import Kept
from uniperceiver.data.mix import BatchMaker
from uniperceiver.data.tasks import open_tasks
from uniperceiver.errors import UserError
from uniperceiver.runs.interference.callback import InterferenceCallback
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.runs.training import mixture_of
from uniperceiver.training.log import SilentLog
from uniperceiver.training.stop import StopRequest

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
    mixture = mixture_of(recipe, open_tasks(recipe, Path()), tiny_codec(), tiny_model().tokenizer)
    stages = mixture.sets[0].stages
    assert [stage.begins for stage in stages] == [0, 8]
    found = [(stage.preprocess.size, stage.preprocess.frames, stage.batch) for stage in stages]
    assert found == [(32, 2, 3), expected]
    assert mixture.sets[1].stages[0].batch == mixture.sets[1].stages[1].batch


def test_a_late_weight_takes_the_place_of_the_early_one() -> None:
    recipe = small_recipe(("colours", "captions"), steps=10, late_from=0.5)
    colours = replace(recipe.tasks["colours"], weight=3.0, late=LateConfig(weight=0.5))
    recipe = replace(recipe, tasks={**recipe.tasks, "colours": colours})
    mixture = mixture_of(recipe, open_tasks(recipe, Path()), tiny_codec(), tiny_model().tokenizer)
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


def test_dropped_tokens_are_counted_from_shapes() -> None:
    recipe = small_recipe(("clip_captions", "colours"), model__patch=8)
    tasks = {
        "clip_captions": replace(recipe.tasks["clip_captions"], drop=0.7, frames=3, late=LateConfig(size=16)),
        "colours": replace(recipe.tasks["colours"], drop=0.99),
    }
    recipe = replace(recipe, tasks=tasks)
    mixture = mixture_of(recipe, open_tasks(recipe, Path()), tiny_codec(), tiny_model(patch=8).tokenizer)
    clips, images = ([stage.kept for stage in tasks.stages] for tasks in mixture.sets)
    assert clips == [{"video": Kept(tokens=14, of=48)}, {"video": Kept(tokens=3, of=12)}, {}]
    assert images == [{"image": Kept(tokens=1, of=16)}] * 2 + [{}]
    early, late, measured = mixture.sets[0].stages
    assert measured.begins > recipe.steps
    assert (measured.preprocess, measured.batch) == (late.preprocess, late.batch)
    assert mixture.sets[0].stage_at(recipe.steps) == 1
    assert early.cost < measured.cost * 4


@pytest.mark.parametrize(
    ("task", "model", "line"),
    [
        ("words", {}, "tasks.words.drop: the task reads no patches, of which some could be dropped; remove the key"),
        (
            "colours",
            {"image": "regions"},
            "tasks.colours.drop: this model makes no patches of the image, of which some are dropped; remove it",
        ),
    ],
)
def test_what_has_no_patches_drops_none(task: str, model: dict[str, str], line: str, tmp_path: Path) -> None:
    recipe = small_recipe((task,), **{f"tasks__{task}__drop": 0.5}, **{f"model__{key}": model[key] for key in model})
    with pytest.raises(UserError, match=re.escape(line)):
        prepare_run(recipe, tmp_path, tmp_path / "run")


def test_evaluation_of_a_run_that_drops_tokens_sees_all_of_them(tmp_path: Path) -> None:
    runs = [
        prepare_run(small_recipe(("colours",), model__patch=8, tasks__colours__drop=drop), tmp_path, tmp_path / name)
        for name, drop in (("whole", 0.0), ("dropped", 0.5))
    ]
    scores = [run.callbacks.evaluate(run.state, StopRequest(), SilentLog()) for run in runs]
    assert scores[0] == scores[1]
    plan = runs[1].mixture.plans(0, [0])[0]
    _, batch, _ = BatchMaker(runs[1].mixture)[plan]
    assert batch.inputs.parts[0].keep_BG.shape == (3, 8)
