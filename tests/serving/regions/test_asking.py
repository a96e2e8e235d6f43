"""Asking what is where needs no pairing of proposals with things, nor the libraries of training."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.regions_run import region_values
from tests.small_run import train
from uniperceiver import Recipe, load
from uniperceiver.cli import main
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.errors import UserError
from uniperceiver.strict import parse

MISSING = ("scipy", "scipy.optimize", "pycocotools", "pycocotools.mask")


def recipe() -> Recipe:
    return parse(Recipe, region_values(("shapes",), steps=1), "recipe of masks")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asking")
    train(folder / "run", recipe())
    pixels = ScenesSource(items=4, pixels=32, objects=3).read(0).image
    assert isinstance(pixels, np.ndarray)
    Image.fromarray(pixels).save(folder / "scene.png")
    return folder / "run"


@pytest.fixture
def bare(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run, where the libraries of training are not installed and every pairing is a fault."""
    for name in MISSING:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr("uniperceiver.tasks.localisation.match._assigned")
    return run


def answers(run: Path) -> list[Any]:
    model, picture = load(run), run.parent / "scene.png"
    return [*model.detect(picture, least=0.0), *model.segment([picture, picture], least=0.0)]


def test_things_are_found_without_pairing(run: Path, request: pytest.FixtureRequest) -> None:
    before = answers(run)
    for first, other in zip(before, answers(request.getfixturevalue("bare")), strict=True):
        assert first.scores.tolist() == other.scores.tolist()
        assert np.array_equal(first.boxes, other.boxes)
        assert np.array_equal(first.masks, other.masks)
    assert before[1].masks.shape == (35, 32, 32)


def test_the_command_line_needs_them_no_more(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", str(bare), "detect", "--least", "0", "--json", "--", str(bare.parent / "scene.png")]
    assert main(words) == 0
    assert capsys.readouterr().out.count('"score"') == 35


def test_training_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MISSING[:2]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"scipy, which is missing; pip install 'uniperceiver\[detection\]'"):
        train(tmp_path / "run", recipe())
