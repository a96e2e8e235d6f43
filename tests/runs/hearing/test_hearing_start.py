"""Runs that hear beside runs that do not: shared weights, and starts that do not hear."""

from pathlib import Path
from typing import Any

import pytest
import torch

import uniperceiver
from tests.hearing import KINDS, hearing_recipe, hearing_tasks, train_hearing
from uniperceiver import UserError
from uniperceiver.runs.prepare import prepare_run

DEAF = {"texts": "image_text_retrieval", "told": "image_captioning"}
BOTH = {**DEAF, "tones": KINDS["tones"], "pairs": KINDS["pairs"]}
CONDITIONS = ["shared", "attribute", "modality", "token"]


def first_weights(tmp_path: Path, kinds: dict[str, str], condition: str, **changes: Any) -> dict[str, torch.Tensor]:
    recipe = hearing_recipe(kinds, {"moe.condition": condition, "model.vocabulary": 270, **changes})
    folder = tmp_path / f"{len(kinds)}"
    return prepare_run(recipe, tmp_path, folder, tasks=hearing_tasks(recipe), quiet=True).state.model.state_dict()


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_task_that_hears_changes_no_other_first_weight(tmp_path: Path, condition: str) -> None:
    deaf, hearing = (first_weights(tmp_path, kinds, condition) for kinds in (DEAF, BOTH))
    assert {name for name in hearing if name not in deaf} == {
        "tokenizer.sound.project.weight",
        "tokenizer.sound.project.bias",
        *(f"temperatures.{name}" for name in ("audio_cls", "audio_retrieve", "video_audio_retrieve")),
    }
    wider = 0
    for name, value in deaf.items():
        wide = hearing[name]
        if wide.shape != value.shape:
            wider += 1
            wide = wide[:, :8] if name.endswith("embed.weight") else wide[:2]
        assert torch.equal(wide, value), name
    assert wider == (2 if condition in ("attribute", "modality") else 0)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_start_that_does_not_hear_answers_as_before_and_learns_to(
    tmp_path: Path, condition: str, capsys: pytest.CaptureFixture[str]
) -> None:
    of_experts = {"moe.condition": condition}
    start = uniperceiver.load(train_hearing(tmp_path / "start", DEAF, of_experts))
    recipe = hearing_recipe(
        BOTH, {**of_experts, "model.start": str(tmp_path / "start"), "steps": 1, "optimiser.lr": 1e-12}
    )
    uniperceiver.train(recipe, tmp_path / "run", tasks=hearing_tasks(recipe), quiet=False)
    assert "its model has no tokenizer for sound, whose weights are newly drawn" in capsys.readouterr().err
    model = uniperceiver.load(tmp_path / "run")
    pictures = [torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    torch.testing.assert_close(model.encode_image(pictures), start.encode_image(pictures), atol=1e-6, rtol=0)
    torch.testing.assert_close(model.encode_text(["low"]), start.encode_text(["low"]), atol=1e-6, rtol=0)
    assert model.caption(pictures, max_words=4) == start.caption(pictures, max_words=4)
    assert model.saved.arch.sound is not None
    assert model.saved.arch.sound.is_measured


def test_a_start_that_hears_keeps_its_ears(tmp_path: Path) -> None:
    tones, place = {"tones": KINDS["tones"]}, str(tmp_path / "start")
    start = uniperceiver.load(train_hearing(tmp_path / "start", tones)).saved.arch
    assert start.sound is not None
    for number, changes in enumerate(
        (
            {"model.start": place},
            {"model": {"start": place}, "tune.method": "prompt"},
            {"model": {"start": place}, "tune.method": "full"},
        )
    ):
        recipe = hearing_recipe(tones, changes)
        run = prepare_run(recipe, tmp_path, tmp_path / f"run{number}", tasks=hearing_tasks(recipe), quiet=True)
        assert run.objective.tasks[0].preprocess.sound == start.sound
    recipe = hearing_recipe(tones, {"model.start": place, "model.sound.mels": 8})
    with pytest.raises(UserError, match=r"its model hears with rate 8000, kind spectrogram, mels 16, .*; remove model"):
        prepare_run(recipe, tmp_path, tmp_path / "other", tasks=hearing_tasks(recipe), quiet=True)


@pytest.mark.parametrize("method", ["prompt", "full"])
def test_tuning_adds_no_ears(tmp_path: Path, method: str) -> None:
    train_hearing(tmp_path / "start", {"texts": DEAF["texts"]})
    changes = {"model": {"start": str(tmp_path / "start")}, "tune.method": method}
    recipe = hearing_recipe({"tones": KINDS["tones"]}, changes)
    with pytest.raises(UserError, match="task 'tones' hears, which its model does not, and tuning adds no tokenizer"):
        prepare_run(recipe, tmp_path, tmp_path / "run", tasks=hearing_tasks(recipe), quiet=True)
