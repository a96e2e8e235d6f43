"""The encoded vocabulary lies beside a large model, and is used only with the weights that it was made from."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from uniperceiver import UniPerceiver, load
from uniperceiver.atomic import sha256_of
from uniperceiver.serving.engine import vocabulary

PICTURE = [np.full((32, 32, 3), 90, np.uint8)]
ENCODED = "words of the vocabulary are encoded"


@pytest.fixture
def saved(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A saved model that counts as large."""
    monkeypatch.setattr(vocabulary, "_WORTH", 0)
    shutil.copytree(trained / "model", tmp_path / "model")
    return tmp_path / "model"


def caption(folder: Path, capsys: pytest.CaptureFixture[str], task: str = "captions") -> tuple[list[str], str]:
    """What a new process would answer, and say."""
    answer = load(folder).caption(PICTURE, 2, task, max_words=4)
    return answer, capsys.readouterr().err


def test_it_is_encoded_once(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer, line = caption(saved, capsys)
    assert f"{ENCODED}, and kept beside the model" in line
    (path,) = saved.glob("vocabulary-*")
    digest = sha256_of(path)
    assert caption(saved, capsys) == (answer, "")
    assert sha256_of(path) == digest
    model = load(saved)
    homeless = UniPerceiver(model.saved)
    plain_VD = homeless._engine.all_candidates(model.saved.tasks["captions"])
    assert torch.equal(model._engine.all_candidates(model.saved.tasks["captions"]), plain_VD)
    model.save_pretrained(saved)  # a folder with it is one of a saved model
    assert not list(saved.glob("vocabulary-*"))


@pytest.mark.parametrize("wrong", ["weights", "damaged", "words"])
def test_it_belongs_to_its_weights(wrong: str, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    caption(saved, capsys)
    (path,) = saved.glob("vocabulary-*")
    model = load(saved)
    if wrong == "weights":
        model.model.tokenizer.words.words.data.mul_(-1)
        model.save_pretrained(saved.parent / "other")
        shutil.copy(path, saved.parent / "other")
        saved = saved.parent / "other"
    else:
        path.write_bytes(path.read_bytes()[:200] if wrong == "damaged" else b"words")
    answer, lines = caption(saved, capsys)
    assert ENCODED in lines
    assert ("damaged" in lines) == (wrong != "weights")
    assert caption(saved, capsys) == (answer, "")


def test_weights_changed_in_memory_are_not_kept(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = load(saved)
    model.model.tokenizer.words.words.data.mul_(-1)
    model.model.weights_changed()
    model.to("cpu").caption(PICTURE, 1, "captions", max_words=2)
    assert capsys.readouterr().err.strip().endswith(ENCODED)
    assert not list(saved.glob("vocabulary-*"))


def test_a_folder_that_cannot_be_written_works(
    saved: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = caption(saved, capsys)
    next(saved.glob("vocabulary-*")).unlink()

    def refused(source: object, target: object) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(os, "replace", refused)
    answer, lines = caption(saved, capsys)
    assert answer == expected
    assert "cannot be kept (Read-only file system); the next process encodes the vocabulary again" in lines
    assert sorted(path.name[:5] for path in saved.iterdir()) == ["READM", "confi", "model", "prepr", "token"]
