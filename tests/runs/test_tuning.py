"""Tuning a finished model: what is trained, what stays, what it can be done with, and that a stop changes nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.small_run import assert_same, log_lines, same_tensors, small_recipe, train
from tests.tuned import pictures, state_of, tuning
from uniperceiver import UniPerceiver, evaluate, load
from uniperceiver.data.formats import Source
from uniperceiver.errors import UserError
from uniperceiver.model.prompts import is_tuned
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.runs.tuning import tune_recipe

TASKS = ("colours", "captions", "retrieval")
ROUTED: dict[str, dict[str, Any]] = {
    "attribute": {"condition": "attribute", "experts": 3, "layers": [1]},
    "token": {"condition": "token", "experts": 5, "k": 1, "balance": {"switch": 0.0, "bias_rate": 0.01}},
}
EVERYTHING = {"optimiser__accumulate": 2, "optimiser__ema": 0.5, "optimiser__precision": "bfloat16"}
TEXTS = ["a red square", "blue", "two things"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Runs of two layers to be tuned, by their routing; nobody may change them."""
    folder = tmp_path_factory.mktemp("bases")
    for name, moe in {"dense": {}, **ROUTED}.items():
        train(folder / name, small_recipe(TASKS, steps=2, model__layers=2, model__layer_scale=0.5, moe=moe))
    return {name: folder / name for name in ("dense", *ROUTED)}


@pytest.mark.parametrize("base", ["dense", *ROUTED])
@pytest.mark.parametrize("changes", [{"tune__head": True}, {"tune__labels": True, "tune__shared": False, **EVERYTHING}])
def test_prompt_tuning_changes_what_it_tunes_and_nothing_else(
    bases: Mapping[str, Path], tmp_path: Path, base: str, changes: Mapping[str, Any]
) -> None:
    run = train(tmp_path, tuning(bases[base], optimiser__warmup=0, **changes))
    before = state_of(load(bases[base]))
    start = prepare_run(run.recipe, tmp_path, tmp_path / "again", quiet=True).state.model.state_dict()
    for after in (dict(run.state.model.state_dict()), state_of(load(tmp_path))):
        kept = {name: value for name, value in after.items() if not is_tuned(name)}
        assert len(kept) > 20
        assert same_tensors(kept, {name: before[name] for name in kept})
        tuned = [name for name in after if is_tuned(name)]
        assert not [name for name in tuned if torch.equal(after[name], start[name])]
    assert run.state.model.prompts is not None
    exported, average = state_of(load(tmp_path)), run.state.average
    assert same_tensors(exported, {**run.state.model.state_dict(), **(average or {})})
    assert (average is None) or not torch.equal(average["prompts.answer"], run.state.model.prompts.answer)


@pytest.mark.parametrize("base", ["dense", *ROUTED])
def test_full_tuning_changes_all_weights_and_keeps_the_model(
    bases: Mapping[str, Path], tmp_path: Path, base: str
) -> None:
    run = train(tmp_path, tuning(bases[base], "colours", "captions", "retrieval", method="full", steps=3))
    before, after = load(bases[base]), load(tmp_path)
    assert after.saved.base is None
    assert (tmp_path / "model/model.safetensors").is_file()
    assert after.saved.arch == before.saved.arch
    assert after.codec == before.codec
    changed = [name for name, value in state_of(after).items() if not torch.equal(value, state_of(before)[name])]
    parameters = dict(run.state.model.named_parameters())
    assert {"head.linear.weight", "encoder.blocks.0.norm1.weight"} <= set(changed)
    assert len(changed) > 0.7 * len(parameters)  # not the temperature of clips, for instance


@torch.no_grad()
@pytest.mark.parametrize("base", ["dense", *ROUTED])
@pytest.mark.parametrize("method", ["prompt", "full"])
def test_before_the_first_step_the_answers_are_those_of_the_base(
    bases: Mapping[str, Path], tmp_path: Path, base: str, method: str
) -> None:
    """Without deep prompts, that is: with the head at zero and no bias there is nothing that could matter."""
    changes = {"tune__vectors": 0, "tune__head": True} if method == "prompt" else {}
    run = prepare_run(tuning(bases[base], method=method, **changes), tmp_path, tmp_path, quiet=True)
    run.callbacks.export(run.state)
    model, start = load(tmp_path), load(bases[base])
    labels = list(model.saved.tasks["shapes"].task.labels)
    found, expected = model.classify(pictures(), task="shapes"), start.classify(pictures(), labels)
    assert torch.equal(found, expected)
    assert torch.equal(model.rank(pictures(), TEXTS), start.rank(pictures(), TEXTS))
    prompted = prepare_run(tuning(bases[base], tune__vectors=2), tmp_path, tmp_path / "prompted", quiet=True)
    prompted.callbacks.export(prompted.state)
    assert not torch.equal(load(tmp_path / "prompted").classify(pictures(), task="shapes"), expected)


@pytest.mark.parametrize(
    ("base", "method", "changes"),
    [
        ("dense", "prompt", {**EVERYTHING, "evaluation__every": 2}),
        ("token", "prompt", {}),
        ("token", "full", {"moe": {"balance": {"bias_rate": 0.01}}, "optimiser__ema": 0.9}),
        ("attribute", "full", {}),
    ],
)
def test_a_stopped_run_goes_on_bit_for_bit(
    bases: Mapping[str, Path], tmp_path: Path, base: str, method: str, changes: Mapping[str, Any]
) -> None:
    recipe = tuning(bases[base], method=method, **changes)
    whole = train(tmp_path / "whole", recipe)
    for stop in (1, 3):
        train(tmp_path / "parts", recipe, stop_after=stop)
    assert_same(whole, train(tmp_path / "parts", recipe))
    assert same_tensors(state_of(load(tmp_path / "whole")), state_of(load(tmp_path / "parts")))


@pytest.mark.parametrize("base", ["dense", "attribute"])
def test_captions_and_retrieval_are_tuned_too(bases: Mapping[str, Path], tmp_path: Path, base: str) -> None:
    train(tmp_path, tuning(bases[base], "captions", "retrieval", tune__shared=False, candidates__sample=20))
    model, start = load(tmp_path), load(bases[base])
    assert list(model.saved.tasks) == ["captions", "retrieval"]
    assert len(model.caption(pictures(), max_words=5)) == 3
    assert not torch.equal(model.rank(pictures(), TEXTS), start.rank(pictures(), TEXTS))
    assert not torch.equal(model.encode_text(TEXTS), start.encode_text(TEXTS))


def questions(model: UniPerceiver) -> list[torch.Tensor]:
    return [
        model.classify(pictures(), task="shapes"),
        model.rank(pictures(), TEXTS, task="shapes"),
        model.encode_image(pictures(), task="shapes"),
    ]


@pytest.mark.parametrize("changes", [{"tune__head": True}, {"tune__labels": True, "tune__shared": False}])
def test_a_tuned_model_is_merged(bases: Mapping[str, Path], tmp_path: Path, changes: Mapping[str, Any]) -> None:
    train(tmp_path / "run", tuning(bases["attribute"], **changes))
    model = load(tmp_path / "run")
    model.merge().save_pretrained(tmp_path / "merged")
    merged = load(tmp_path / "merged")
    assert merged.saved.base is None
    assert merged.saved.arch.moe is not None
    for found, expected in zip(questions(merged), questions(model), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_tuned_model_is_tuned_again_beside_the_same_base(bases: Mapping[str, Path], tmp_path: Path) -> None:
    train(tmp_path / "one", tuning(bases["dense"], tune__head=True))
    train(tmp_path / "two", tuning(tmp_path / "one", steps=2, tune__head=True, seed=3))
    run = prepare_run(tuning(tmp_path / "one", tune__head=True), tmp_path, tmp_path / "three", quiet=True)
    assert same_tensors(dict(run.state.model.state_dict()), state_of(load(tmp_path / "one")))
    before = state_of(load(tmp_path / "two"))
    (tmp_path / "one/model/tuned.safetensors").unlink()  # it was only a start
    again = load(tmp_path / "two")
    assert same_tensors(state_of(again), before)
    assert again.saved.base is not None
    assert again.saved.base.folder == bases["dense"] / "model"


def test_all_weights_of_a_tuned_model_are_tuned(bases: Mapping[str, Path], tmp_path: Path) -> None:
    train(tmp_path / "one", tuning(bases["dense"], tune__head=True))
    run = train(tmp_path / "two", tuning(tmp_path / "one", method="full"))
    assert run.state.model.prompts is not None
    assert load(tmp_path / "two").saved.base is None
    assert same_tensors(state_of(load(tmp_path / "two")), dict(run.state.model.state_dict()))


def ids(source: Source) -> set[str]:
    return {source.read(index).id for index in range(len(source))}


def test_a_fraction_is_nested_seeded_and_of_training_only(bases: Mapping[str, Path], tmp_path: Path) -> None:
    def sets(share: float, seed: int = 0) -> set[str]:
        recipe = tuning(bases["dense"], tune__fraction=share, seed=seed)
        return ids(prepare_run(recipe, tmp_path, tmp_path / f"{share} {seed}").mixture.sets[0].source)

    few, more, other, everything = sets(0.25), sets(0.5), sets(0.5, seed=1), sets(1.0)
    assert [len(each) for each in (few, more, other, everything)] == [3, 6, 6, 12]
    assert few < more < everything
    assert more != other < everything
    with pytest.raises(
        UserError, match=r"^tasks.shapes.train: tune.fraction: from 0 to 0.01 of 12 samples there is none"
    ):
        sets(0.01)


def test_a_tuned_run_is_measured_on_what_it_was_trained_and_evaluated_on(
    bases: Mapping[str, Path], tmp_path: Path
) -> None:
    train(tmp_path, tuning(bases["dense"], tune__fraction=0.25, evaluation__every=4))
    (figures,) = evaluate(tmp_path, splits=("train", "val"))["tasks"].values()
    assert (figures["train"]["n"], figures["val"]["n"]) == (3, 12)
    (line,) = log_lines(tmp_path, "evaluate")
    assert "shapes/val/accuracy@1" in line


@pytest.mark.parametrize(("method", "watched"), [("full", 1), ("prompt", None)])
def test_gates_are_balanced_and_watched_where_they_are_trained(
    bases: Mapping[str, Path], tmp_path: Path, method: str, watched: int | None
) -> None:
    """By the model's own k, not that of the recipe's section, which says nothing of a model that is tuned."""
    run = train(tmp_path, tuning(bases["token"], method=method))
    assert run.watched_k == watched
    assert (run.objective.balance.get("switch", 0.0) > 0) == (method == "full")
    balanced = [line for line in log_lines(tmp_path, "train") if "shapes/balance_loss" in line]
    assert bool(balanced) == (method == "full")
    before, after = state_of(load(bases["token"])), state_of(load(tmp_path))
    gates = [name for name in after if ".router." in name]
    assert any(name.endswith("bias_E") for name in gates)
    moved = {name for name in gates if not torch.equal(before[name], after[name])}
    assert {name.rpartition(".")[2] for name in moved} == ({"weight"} if method == "full" else set())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of the tracer's own making
def test_compiled_blocks_compute_the_same(
    bases: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other routings: tests/training/test_moe_runs.py."""
    compile_module = torch.nn.Module.compile  # traced as ever, but run as it is: kernels would take minutes

    def traced(self: torch.nn.Module, **options: Any) -> None:
        compile_module(self, backend="eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", traced)
    runs = [train(tmp_path / f"{on}", tuning(bases["dense"], steps=1, optimiser__compile=on)) for on in (False, True)]
    for one, other in zip(*(run.state.model.parameters() for run in runs), strict=True):
        torch.testing.assert_close(one, other)


def test_biases_for_selection_move_where_the_recipe_says_so(bases: Mapping[str, Path], tmp_path: Path) -> None:
    recipe = tuning(bases["token"], method="full", moe={"balance": {"switch": 0.0, "bias_rate": 0.01}})
    run = train(tmp_path, recipe)
    before, after = state_of(load(bases["token"])), state_of(load(tmp_path))
    biases = [name for name in after if name.endswith("bias_E")]
    assert biases
    assert not any(torch.equal(before[name], after[name]) for name in biases)
    assert dict(run.objective.balance)["switch"] == 0.0


def test_attribute_routing_has_nothing_to_balance(bases: Mapping[str, Path], tmp_path: Path) -> None:
    train(tmp_path, tuning(bases["attribute"], method="full"))
    assert not [line for line in log_lines(tmp_path, "train") if "shapes/balance_loss" in line]
    assert not log_lines(tmp_path, "warning")


def test_a_picture_among_clips_is_said(trained: Path, tmp_path: Path) -> None:
    for name in ("a/1.mp4", "a/2.mp4", "b/3.mp4", "b/thumb.jpg", "__MACOSX/a/._1.jpg"):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).touch()
    with pytest.raises(
        UserError, match=r"d: holds 3 clips and 1 images, such as b/thumb\.jpg; move the images to another"
    ):
        tune_recipe(str(trained), tmp_path / "d")
    (tmp_path / "d/b/thumb.jpg").unlink()
    assert tune_recipe(str(trained), tmp_path / "d").tasks["d"].kind == "video_classification"
