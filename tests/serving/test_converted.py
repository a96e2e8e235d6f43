"""A converted model is like any other: asked, ranked, merged, tuned, evaluated, resumed, saved and loaded."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.converted import MOE, run
from tests.model.official.made_up import PROMPTS, original, write
from tests.shared import GOLDEN
from tests.small_run import TASKS, assert_same, train, write_recipe
from tests.tuned import QUICK, tuning, write_pictures
from uniperceiver import load
from uniperceiver.cli import main
from uniperceiver.errors import UserError
from uniperceiver.runs.prepare import prepare_run

LABELS = ("a cat", "the dog of a neighbour", "nothing")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted model with experts: of the original's own code where one is at hand, or else of made-up weights.

    Nobody may change it.
    """
    folder = tmp_path_factory.mktemp("converted")
    if not GOLDEN.is_dir():
        return run(write(folder / "moe.pth", MOE))
    path = folder / "moe_odd.safetensors"
    path.symlink_to(GOLDEN / "moe_odd" / "state_dict.safetensors")
    return run(path, heads=4)


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 40, 3), dtype=np.uint8)).save(path)
    return str(path)


def printed(capsys: pytest.CaptureFixture[str], *words: str | Path) -> Any:
    capsys.readouterr()
    assert main([*map(str, words)]) == 0
    return json.loads(capsys.readouterr().out)


def sums(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_it_answers(converted: Path, picture: str, capsys: pytest.CaptureFixture[str]) -> None:
    (classified,) = printed(capsys, "predict", converted, "classify", "--json", "--labels", *LABELS, "--", picture)
    assert sum(classified["scores"].values()) == pytest.approx(1.0)
    assert set(classified["scores"]) == set(LABELS)
    (ranked,) = printed(capsys, "predict", converted, "rank", "--json", "--texts", *LABELS, "--", picture)
    assert all(-1.0 <= score <= 1.0 for score in ranked["scores"].values())
    assert len(set(ranked["scores"].values())) == len(LABELS)
    model = load(converted)
    expected = {label: float(value) for label, value in zip(LABELS, model.rank(picture, LABELS)[0], strict=True)}
    assert ranked["scores"] == pytest.approx(expected, abs=1e-6)


def test_it_captions_with_two_beams_and_at_most_21_tokens(
    converted: Path, picture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (captioned,) = printed(capsys, "predict", converted, "caption", "--json", "--", picture)
    model = load(converted)
    assert captioned["answer"] == model.caption(picture, beam=2, max_words=21)[0]
    several = {beam: model.caption(picture, beam)[0] for beam in (1, 2, 3)}
    assert len(set(several.values())) > 1  # beams do something
    assert model.caption(picture, max_words=2) != model.caption(picture)


def test_it_looks_at_clips_and_reads_texts(converted: Path) -> None:
    model, clip = load(converted), np.random.default_rng(0).integers(0, 255, (9, 40, 50, 3), dtype=np.uint8)
    assert model.encode_video(clip).shape == (1, model.saved.arch.width)
    assert torch.isfinite(model.classify([clip], labels=LABELS)).all()
    told = model.classify("it was a bad day", labels=["wonderful", "bad"], modality="text")
    assert float(told.sum()) == pytest.approx(1.0)


def test_merged_it_answers_alike(
    converted: Path, picture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = printed(capsys, "merge", converted, "--out", tmp_path / "merged", "--json")
    assert told["together"]["rows"] == 6  # the original's table has six rows
    model, merged = load(converted), load(tmp_path / "merged")
    assert merged.saved.origin == model.saved.origin
    ours, theirs = (each.classify(picture, LABELS) for each in (merged, model))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert merged.caption(picture) == model.caption(picture)


def test_saved_again_it_is_the_same(converted: Path, tmp_path: Path) -> None:
    load(converted).save_pretrained(tmp_path / "one")
    load(tmp_path / "one").save_pretrained(tmp_path / "two")
    assert sums(tmp_path / "one") == sums(tmp_path / "two") == sums(converted)


@pytest.mark.parametrize("method", ["prompt", "full"])
def test_it_is_tuned_on_a_folder_of_pictures(
    method: str, converted: Path, picture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out, before = write_pictures(tmp_path / "shapes"), tmp_path / "run", sums(converted)
    printed(capsys, "tune", converted, data, "--out", out, "--method", method, "--json", *QUICK)
    tuned, model = load(out), load(converted)
    assert tuned.classify(picture, task="shapes").shape == (1, 3)
    assert sums(converted) == before
    moved = [
        name for name, each in model.model.state_dict().items() if not torch.equal(each, tuned.model.state_dict()[name])
    ]
    assert "tokenizer.norm.weight" in moved
    assert ("tokenizer.words.words" in moved) == (method == "full")
    assert (out / "model" / "tuned.safetensors").is_file() == (method == "prompt")


def test_tuned_prompts_keep_to_the_layout_of_their_base(converted: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", tuning(converted, steps=1))
    path = tmp_path / "run" / "model" / "config.json"
    config = json.loads(path.read_text())
    config["architecture"]["moe"]["layout"] = "paper"
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match="says layout paper, but these weights of the original release"):
        load(tmp_path / "run")


def test_a_stopped_run_goes_on_as_if_it_had_not(converted: Path, tmp_path: Path) -> None:
    recipe = tuning(converted, "colours", "captions", steps=4, checkpoint__every=2)
    whole = train(tmp_path / "whole", recipe)
    train(tmp_path / "stopped", recipe, stop_after=2)
    assert_same(train(tmp_path / "stopped", recipe), whole)


def test_the_original_is_restored_by_fields_of_its_config(converted: Path, tmp_path: Path) -> None:
    """What differs on purpose: what a converted model begins with, and what its config.json may say instead."""
    folder = shutil.copytree(converted, tmp_path / "model")
    usual = prepare_run(tuning(folder, steps=1), tmp_path, tmp_path / "usual", quiet=True)
    assert (usual.objective.accuracy_in_loss, usual.state.model.likelihood_float32) == (False, True)
    assert usual.state.model.tokenizer.patches.random_still_row  # as the weights were trained
    path = folder / "config.json"
    config = json.loads(path.read_text())
    changes = {"accuracy_in_loss": True, "likelihood_float32": False, "random_still_row": False, "frame_offset": False}
    config["architecture"] |= {**changes, "max_scale": 50.0}
    path.write_text(json.dumps(config))
    recipe = tuning(folder, steps=1, model__frame_offset=False)
    other = prepare_run(recipe, tmp_path, tmp_path / "other", quiet=True)
    model = other.state.model
    assert (other.objective.accuracy_in_loss, model.likelihood_float32, model.max_scale) == (True, False, 50.0)
    assert (model.tokenizer.patches.random_still_row, model.tokenizer.patches.frame_offset) == (False, False)
    assert load(folder).codec.encode("<|spe|>") == [model.tokenizer.words.answer]


def test_it_is_evaluated(converted: Path, tmp_path: Path) -> None:
    names = ("colours", "captions", "retrieval", "words", "relations", "motions")
    values = {
        "device": "cpu",
        "evaluation": {"limit": 4, "max_words": 3},
        "tasks": {name: TASKS[name] for name in names},
    }
    recipe, results = write_recipe(tmp_path / "recipe.yaml", values), tmp_path / "results.json"
    words = ["evaluate", converted, "--data", recipe, "--split", "val", "--json", results]
    assert main([*map(str, words)]) == 0
    found = json.loads(results.read_text())["tasks"]
    assert set(found) == set(names)
    assert all(each["val"]["loss"] > 0 for each in found.values())


def test_a_prompt_tuned_checkpoint_answers_for_its_classes(tmp_path: Path, picture: str) -> None:
    state = original(moe=True, prompts="own", classes=3)
    model = load(run(write(tmp_path / "a.pth", state)))
    assert model.saved.arch.prompts is not None
    assert model.saved.arch.prompts.vectors == PROMPTS
    answers = model.classify(picture, LABELS)
    assert answers.shape == (1, 3)
    with torch.no_grad():
        model.model.prompts.classes.bias.add_(torch.tensor([0.0, 3.0, 0.0]))  # type: ignore[union-attr]
    assert float(model.classify(picture, LABELS)[0, 1]) > float(answers[0, 1])
