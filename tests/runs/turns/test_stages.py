"""Shapes and budgets of a recipe: what becomes of them, and what is refused."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.small_run import TASKS, same_tensors, small_recipe
from tests.tiny import tiny_batch, tiny_codec, tiny_model, tiny_task
from uniperceiver import Recipe, ShapeConfig, UserError
from uniperceiver.data.batch import Kept
from uniperceiver.data.mix import BatchMaker, Mixture, Plan
from uniperceiver.data.tasks import open_tasks
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.runs.training import mixture_of
from uniperceiver.tasks.sequences import widened

SHAPES = [{"size": 16, "weight": 3}, {"frames": 4, "drop": 0.75}, {"stride": 2, "batch": 5, "drop": 0}]


def made(recipe: Recipe, **model: Any) -> Mixture:
    tokenizer = tiny_model(patch=8, **model).tokenizer
    return mixture_of(recipe, open_tasks(recipe, Path()), tiny_codec(), tokenizer)


def test_a_shape_says_what_differs_from_the_task() -> None:
    changes = {"tasks__clip_captions__shapes": SHAPES, "tasks__clip_captions__drop": 0.5, "model__patch": 8}
    first, second, third, measured = made(small_recipe(("clip_captions",), **changes)).sets[0].stages
    assert made(small_recipe(("clip_captions",), **changes)).sets[0].turns == (3.0, 1.0, 1.0, 0.0)
    sizes = [(s.preprocess.size, s.preprocess.frames, s.preprocess.stride, s.batch) for s in (first, second, third)]
    assert sizes == [(16, 2, 1, 3), (32, 4, 1, 3), (32, 2, 2, 5)]
    kept = [stage.kept.get("video") for stage in (first, second, third, measured)]
    assert kept == [Kept(tokens=4, of=8), Kept(tokens=16, of=64), None, None]
    assert (measured.preprocess.size, measured.preprocess.frames, measured.batch) == (32, 2, 3)
    assert second.name == "32 px, 4 frames, 64 words, drop 0.75"
    assert third.name == "32 px, 2 frames of 2, 64 words"


@pytest.mark.parametrize("round_to", [1, 8])
def test_a_batch_has_as_many_samples_as_the_budget_holds(round_to: int) -> None:
    names = ("clip_captions", "colours", "words", "retrieval", "motions")
    shapes = {f"tasks__{name}__shapes": SHAPES[:2] for name in ("clip_captions", "motions")}
    config = {"tokens": 1024, "round": round_to, "tasks_per_step": 1}
    recipe = small_recipe(names, sampling=config, model__patch=8, **shapes)
    tasks = {name: replace(task, batch=32, length=20) for name, task in recipe.tasks.items()}
    recipe = replace(recipe, tasks=tasks)
    mixture = made(recipe)
    text = 20 + -20 % round_to
    captions = 40 + -40 % round_to
    tokens = {
        "clip_captions": [1 + 8 + captions, 1 + 16 + captions, 1 + 32 + captions],
        "colours": [17, 17],
        "words": [1 + text] * 2,
        "retrieval": [17, 17],
        "motions": [9, 17, 33],
    }
    maker = BatchMaker(mixture)
    model = tiny_model(patch=8, max_frames=4)
    for tasks_of in mixture.sets:
        stages = tasks_of.stages
        assert [stage.tokens for stage in stages] == tokens[tasks_of.task.name]
        for number, stage in enumerate(stages[: 2 if tasks_of.turns else 1]):
            assert stage.batch == 1024 // stage.tokens
            assert 1024 * 7 / 8 < stage.batch * stage.tokens <= 1024
            plan = Plan(step=0, place=0, index=tasks_of.index, start=0, count=stage.batch, stage=number)
            batch = maker[plan][1]
            encoded = model.tokenizer(batch.inputs).x_BND
            assert encoded.shape[0] * encoded.shape[1] <= stage.batch * stage.tokens
            if not tasks_of.task.answer.most_tokens(tasks_of.task, 20):
                assert encoded.shape[0] * encoded.shape[1] == stage.batch * stage.tokens


@pytest.mark.parametrize("name", ["image_captioning", "masked_language_modelling", "image_text_retrieval"])
def test_padding_changes_no_answer(name: str) -> None:
    model, batch = tiny_model().eval(), tiny_batch(tiny_task(name))
    for sequences in (batch.inputs, *filter(None, [batch.candidates])):
        if sequences.text is None:
            continue
        wider = widened(sequences, 7)
        width = model.tokenizer(sequences).x_BND.shape[1]
        assert wider.text.values.shape[1] % 7 == 0
        assert widened(wider, 7) is wider
        before, after = model.encode(sequences), model.encode(wider)
        valid_BN = model.tokenizer(sequences).valid_BN
        valid_BN = torch.ones(before.x_BND.shape[:2], dtype=torch.bool) if valid_BN is None else valid_BN
        assert (before.x_BND - after.x_BND[:, :width])[valid_BN].abs().max() < 1e-5


REFUSED = [
    (
        {"tasks.motions.shapes": [{"size": 16}], "tasks.motions.late": {"frames": 4}},
        "tasks.motions.shapes: a task with",
    ),
    ({"sampling.tokens": 1000}, "tasks.motions.batch: sampling.tokens says how many samples a batch has"),
    ({"tasks.motions.lr": 0.5}, "tasks.motions.lr: is for steps of one task, and with sampling.mode=mixed they have"),
    (
        {"tasks.motions.lr": 0.5, "sampling": {"mode": "unmixed"}, "balance": {"window": 2}},
        "tasks.motions.lr: is for steps of one task, and with balance.window they have",
    ),
    ({"sampling.round": 7}, "sampling.round: model.max_text 128 is no multiple of 7"),
    ({"tasks.motions.shapes": [{}, {"size": 20}]}, "tasks.motions.shapes[1].size: 20 is not a multiple of the patch"),
    (
        {"tasks.motions.shapes": [{"length": 999}]},
        "tasks.motions.shapes[0].length: 999 is more than model.max_text 128",
    ),
    ({"tasks.motions.shapes": [{"drop": 1}]}, "drop"),
    ({"tasks.motions.shapes": [{"sise": 1}]}, "sise"),
    ({"tasks.motions.shapes": {"size": 1}}, "shapes"),
    ({"tasks.motions.shapes": [{}, {"hop": 10}]}, "tasks.motions.shapes[1].hop: the task reads no sounds; remove"),
    ({"tasks.motions.seconds": 3.0}, "tasks.motions.seconds: the task reads no sounds; remove the key"),
    ({"tasks.motions.seconds": 1e5}, "tasks.motions.seconds' has a wrong value 100000.0"),
    (
        {"sampling.tokens": 33, "tasks.motions.batch": 32, "tasks.motions.shapes": [{"frames": 4}]},
        "sampling.tokens: 33 hold no 2 samples of tasks.motions.shapes[0], of 65 tokens each; write 130 or more",
    ),
]


@pytest.mark.parametrize(("changes", "line"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_cannot_be_is_refused_in_a_line(changes: dict[str, Any], line: str, tmp_path: Path) -> None:
    def made_run() -> None:
        recipe = small_recipe(("motions",), **{key.replace(".", "__"): value for key, value in changes.items()})
        prepare_run(recipe, tmp_path, tmp_path / "run", quiet=True)

    with pytest.raises(UserError, match=re.escape(line)) as raised:
        made_run()
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_a_shape_of_one_sample_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    recipe = small_recipe(("retrieval",), tasks__retrieval__shapes=[{"batch": 1}])
    with pytest.raises(UserError, match=re.escape("tasks.retrieval.shapes[0].batch: is 1, so every sample")):
        prepare_run(recipe, tmp_path, tmp_path / "run", quiet=True)


def test_a_learning_rate_is_that_of_the_steps_task(tmp_path: Path) -> None:
    rates = []
    for lr in (1.0, 0.25):
        sampling = {"mode": "unmixed", "tasks_per_step": 1}
        changes = {"steps": 8, "sampling": sampling, "tasks__captions__lr": lr}
        run = prepare_run(small_recipe(("colours", "captions"), **changes), tmp_path, tmp_path / f"{lr}", quiet=True)
        run.state.consumed, own = [0, 0], []
        for step in range(8):
            plans = run.mixture.plans(step, run.state.consumed)
            run._step([(plan, BatchMaker(run.mixture)[plan][1]) for plan in plans])
            own.append((plans[0].index, run.state.optimiser.param_groups[0]["lr"]))
        rates.append(own)
    whole, scaled = rates
    assert {index for index, _ in whole} == {0, 1}
    assert scaled == [(index, rate * (0.25 if index else 1.0)) for index, rate in whole]


def test_two_tasks_may_name_one_source(tmp_path: Path) -> None:
    text = f"""
steps: 4
device: cpu
model: {{width: 16, layers: 1, heads: 2, vocabulary: 280, max_text: 128, patch: 8}}
sampling: {{mode: unmixed, tasks_per_step: 1, order: even, tokens: 512, round: 8}}
data: {{workers: 0}}
evaluation: {{every: 0}}
log: {{tensorboard: false, every: 1}}
tasks:
  clip_words:
    kind: video_text_retrieval
    train: &clips {TASKS["motions"]["train"]}
    size: 32
    frames: 2
    shapes: [{{drop: 0.75}}, {{size: 16, frames: 4}}]
  clip_classes:
    kind: video_classification
    train: *clips
    size: 32
    weight: 0.3
"""
    from uniperceiver import read_recipe

    (tmp_path / "recipe.yaml").write_text(text.replace("'", '"'))
    recipe = read_recipe(tmp_path / "recipe.yaml")
    assert recipe.tasks["clip_words"].shapes == [ShapeConfig(drop=0.75), ShapeConfig(size=16, frames=4)]
    states = []
    for name in ("a", "b"):
        run = prepare_run(recipe, tmp_path, tmp_path / name, quiet=True)
        run.train()
        states.append(dict(run.state.model.named_parameters()))
        assert all(run.state.consumed)
    assert same_tensors(*states)
