"""A run that begins with another model: its weights, its vocabulary and what no recipe says are taken over."""

import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tests.moe_cases import moe_of
from tests.small_run import assert_same, same_tensors, small_recipe, train, values_of, write_recipe
from tests.started import EXPERTS, TASKS, first_model
from tests.tiny import tiny_architecture, tiny_codec, tiny_model
from uniperceiver import UniPerceiver, cli, load
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.errors import UserError
from uniperceiver.runs.initial_weights import _check_same_experts
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.serving import saved as saved_files
from uniperceiver.serving.saved import SavedModel


def pictures() -> list[np.ndarray]:
    source = ScenesSource(items=3, pixels=32, split="test")
    return [np.asarray(source.read(index).image) for index in range(3)]


def answers(model: UniPerceiver) -> list[torch.Tensor]:
    texts = ["a red square is left of a circle", "blue"]
    return [
        model.classify(pictures(), task="colours"),
        model.classify(texts, task="relations"),
        model.encode_image(pictures(), task="captions"),
        model.encode_text(texts, task="captions"),
    ]


@pytest.mark.parametrize("moe", ["attribute", "token", "context", "modality", "task", "task_specific", "shared"])
def test_the_first_answers_are_those_of_the_dense_start(trained: Path, tmp_path: Path, moe: str) -> None:
    path = write_recipe(tmp_path / "r.yaml", values_of(TASKS, model__start=str(trained), model__vocabulary=300))
    model, dense = first_model(path, tmp_path / "run", f"moe.condition={moe}"), load(trained)
    assert (model.saved.arch.moe is None) == (moe == "shared")
    assert model.codec == dense.codec
    for ours, theirs in zip(answers(model), answers(dense), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-6)
    assert model.caption(pictures(), task="captions", max_words=5) == dense.caption(pictures(), max_words=5)
    assert f"0 steps on colours, captions, relations (seed 0), begun with {trained}" in model.saved.trained


@pytest.mark.parametrize("moe", ["attribute", "token", "task_specific"])
def test_experts_that_begin_equal_begin_as_the_dense_model_of_their_seed(tmp_path: Path, moe: str) -> None:
    path = write_recipe(tmp_path / "r.yaml", values_of(TASKS, seed=3, model__layers=2))
    dense, apart = first_model(path, tmp_path / "dense"), first_model(path, tmp_path / "apart", f"moe.condition={moe}")
    equal = first_model(path, tmp_path / "equal", f"moe.condition={moe}", "moe.begin=equal")
    for ours, theirs, others in zip(answers(equal), answers(dense), answers(apart), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-6)
        assert not torch.allclose(others, theirs, rtol=1e-3)
    noisy = first_model(path, tmp_path / "noisy", f"moe.condition={moe}", "moe.begin=equal", "moe.copy_noise=0.1")
    experts = noisy.model.get_submodule("encoder.blocks.1.ffn.linear1.experts")
    assert not torch.equal(experts[0].weight, experts[1].weight)  # type: ignore[index]


def test_experts_that_begin_equal_part_as_they_are_trained(tmp_path: Path) -> None:
    run = train(tmp_path, small_recipe(TASKS, steps=3, model__layers=2, moe={**EXPERTS, "begin": "equal"}))
    experts = run.state.model.get_submodule("encoder.blocks.1.ffn.linear1.experts")
    assert len({expert.weight.sum().item() for expert in experts}) == len(list(experts))  # type: ignore[operator, arg-type]


def test_noise_parts_the_copies(trained: Path, tmp_path: Path) -> None:
    moe = {"condition": "token", "experts": 3, "copy_noise": 0.1}
    path = write_recipe(tmp_path / "r.yaml", values_of(TASKS, model__start=str(trained), moe=moe))
    one, again, other = (
        first_model(path, tmp_path / name, f"seed={seed}").model.state_dict()
        for name, seed in (("one", 0), ("again", 0), ("other", 1))
    )
    assert same_tensors(one, again)
    name = "encoder.blocks.0.ffn.linear1.experts.{}.weight"
    assert not torch.equal(one[name.format(0)], one[name.format(1)])
    assert not torch.equal(one[name.format(0)], other[name.format(0)])


def test_a_run_that_goes_on_needs_its_start_no_more(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "model", tmp_path / "start")
    moe = {"condition": "token", "experts": 3, "layers": [0]}
    recipe = small_recipe(TASKS, model__start=str(tmp_path / "start"), moe=moe, optimiser__ema=0.9)
    whole = train(tmp_path / "whole", recipe)
    stopped = train(tmp_path / "stopped", recipe, stop_after=2)
    assert stopped.state.step == 2
    shutil.rmtree(tmp_path / "start")
    resumed = train(tmp_path / "stopped", recipe)
    assert_same(whole, resumed)
    assert load(tmp_path / "stopped").saved.arch == load(tmp_path / "whole").saved.arch
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"^model\.start: \S+start: neither a saved model"):
        train(tmp_path / "empty", recipe)


def test_the_average_begins_with_the_start(trained: Path, tmp_path: Path) -> None:
    recipe = small_recipe(TASKS, model__start=str(trained), optimiser__ema=0.9)
    average = prepare_run(recipe, tmp_path, tmp_path / "run", quiet=True).state.average
    assert average is not None
    assert same_tensors(average, {name: load(trained).model.state_dict()[name] for name in average})


def test_experts_are_taken_over_as_they_are(routed: Path, by_task: Path, tmp_path: Path) -> None:
    for start, changes in (
        (routed, {"model__layers": 2, "moe": EXPERTS}),
        (by_task, {"moe__condition": "task_specific"}),
    ):
        path = write_recipe(tmp_path / "r.yaml", values_of(TASKS, seed=5, model__start=str(start), **changes))
        more = ("moe.noise=0", "model.drop_path=0", "model.frame_offset=false")  # matters of training
        model = first_model(path, tmp_path / start.name, *more)
        assert same_tensors(model.model.state_dict(), load(start).model.state_dict())
        assert model.saved.arch.moe is not None
        assert (model.saved.arch.moe.noise, model.saved.arch.drop_path, model.saved.arch.frame_offset) == (0, 0, False)


def test_what_a_recipe_cannot_say_is_as_in_the_start(tmp_path: Path) -> None:
    """Such as the differences of the original release, whose converted weights are a start like any other."""
    own = {"spatial": "table", "accuracy_in_loss": True, "max_scale": 50.0, "ffn": 24, "layer_scale": 0.7}
    arch = tiny_architecture(**own)
    start = SavedModel(model=tiny_model(**own), arch=arch, codec=tiny_codec(), tasks={})
    saved_files.save(tmp_path / "start", start)
    values = values_of(TASKS, model__start="start", moe=EXPERTS)
    values["model"] |= {"layers": 2, "patch": 16, "max_text": 64, "max_frames": 4, "drop_path": 0.2}
    model = first_model(write_recipe(tmp_path / "r.yaml", values), tmp_path / "run")
    found = model.saved.arch
    assert found == tiny_architecture(**own, moe=found.moe, drop_path=0.2)
    assert found.moe is not None
    state, before = model.model.state_dict(), start.model.state_dict()
    name = "encoder.blocks.1.ffn.linear1"
    assert torch.equal(state[f"{name}.experts.2.weight"], before[f"{name}.weight"])
    kept = {name: value for name, value in before.items() if name in state}
    assert len(kept) > 30
    assert same_tensors(kept, {name: state[name] for name in kept})


def test_a_path_starts_at_the_recipe_or_else_here(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in ("recipes/one", "here/one", "here/other"):
        shutil.copytree(trained / "model", tmp_path / place)
    (tmp_path / "here" / "one" / "model.safetensors").unlink()  # the recipe's comes first
    path = write_recipe(tmp_path / "recipes" / "r.yaml", values_of(TASKS))
    monkeypatch.chdir(tmp_path / "here")
    for name in ("one", "other"):
        first_model(path, tmp_path / name, f"model.start={name}")
    shutil.rmtree(tmp_path / "recipes" / "one")
    assert cli.main(["train", str(path), "model.start=one", "--out", str(tmp_path / "third")]) == 2
    assert capsys.readouterr().err.startswith("uniperceiver: model.start: one/model.safetensors: missing")
    assert yaml.safe_load((tmp_path / "one" / "recipe.yaml").read_text())["model"]["start"] == "one"


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"noise": 0.5}, False),
        ({"training_capacity": 1.5}, False),
        ({"evaluation_capacity": 2.5}, False),
        ({"tasks": 7}, False),
        ({"k": 1}, True),
        ({"experts": 5}, True),
        ({"ffn_layers": (1,)}, True),
        ({"renormalise": False}, True),
        ({"condition": "context"}, True),
        ({"selection_bias": True}, True),
    ],
)
def test_experts_are_the_same_but_for_what_has_no_weight(change: dict[str, Any], differs: bool) -> None:
    start = moe_of("token")
    with pytest.raises(UserError, match=next(iter(change))) if differs else nullcontext():
        _check_same_experts(replace(start, **change), start, "model.start m")
