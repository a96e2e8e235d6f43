"""Questions about things that cannot be asked, and many labels, which can."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.regions_run import region_values
from tests.small_run import train, values_of
from uniperceiver import Recipe, load
from uniperceiver.errors import UserError
from uniperceiver.strict import parse

PICTURE = np.zeros((32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of boxes, and one whose pictures are patches."""
    folder = tmp_path_factory.mktemp("questions")
    train(folder / "boxes", parse(Recipe, region_values(("boxes",), steps=1), "recipe"))
    train(folder / "patches", parse(Recipe, values_of(("colours",), steps=1), "recipe"))
    return folder


@pytest.mark.parametrize("call", ["detect", "segment"])
def test_a_model_of_patches_finds_nothing_and_says_why(runs: Path, call: str) -> None:
    with pytest.raises(UserError, match=f"^{call}: this model reads pictures as patches and makes no proposals; train"):
        getattr(load(runs / "patches"), call)(PICTURE, labels=["a dog", "a cat"])


def test_a_model_of_boxes_has_no_masks(runs: Path) -> None:
    with pytest.raises(UserError, match=r"^segment: none of this model's tasks had masks; train a task of kind inst"):
        load(runs / "boxes").segment(PICTURE)


def test_a_clip_is_no_picture(runs: Path, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    frames: Any = np.zeros((1, 4, 32, 32, 3), np.uint8)
    for clip, message in ((str(film), "film.mp4"), (frames, "image")):
        with pytest.raises(UserError, match=message) as error:
            load(runs / "boxes").detect(clip)
        assert "\n" not in str(error.value)


def test_ten_thousand_labels_are_as_good_as_few(runs: Path) -> None:
    model = load(runs / "boxes")
    labels = [f"thing {number}" for number in range(10_000)]
    (answer,) = model.detect(PICTURE, labels=labels, least=0.0)
    assert len(answer) == 100
    (few,) = model.detect(PICTURE, labels=["thing 3", "thing 4"], least=0.0)
    assert answer.scores.sum() < few.scores.sum()


def test_a_wide_picture_is_squashed_and_its_boxes_are_its_own(runs: Path) -> None:
    (answer,) = load(runs / "boxes").detect(np.zeros((1, 5000, 3), np.uint8), least=0.0)
    assert answer.size == (1, 5000)
    assert answer.boxes[:, 2].max() > 1000
    assert answer.boxes[:, 3].max() <= 1
