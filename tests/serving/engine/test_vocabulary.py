"""The encoded vocabulary lies beside a large model, and is used only with the weights that it was made from."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import tiny_codec, tiny_model
from uniperceiver import UniPerceiver, load
from uniperceiver.atomic import sha256_of
from uniperceiver.model.model import Generalist
from uniperceiver.serving.engine import vocabulary
from uniperceiver.tasks.candidates import Candidates, vocabulary_candidates
from uniperceiver.tasks.catalogue import CATALOGUE

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


def test_its_mark_is_of_all_that_it_is_made_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, task, codec = tiny_model(), CATALOGUE["image_captioning"], tiny_codec()
    candidates = vocabulary_candidates(task, codec)
    (part,) = candidates.sequences.parts

    def mark(made_of: Candidates, weights: Generalist = model) -> str:
        return vocabulary.KeptVocabulary(weights, made_of, tmp_path)._mark()

    other_words = replace(candidates.sequences, parts=(replace(part, values=part.values + 1),))
    marks = [
        mark(candidates),
        mark(replace(candidates, sequences=other_words)),
        mark(vocabulary_candidates(CATALOGUE["masked_language_modelling"], codec)),
        mark(vocabulary_candidates(task, codec, 1)),
        mark(candidates, tiny_model(1)),
    ]
    assert mark(candidates) == marks[0]
    monkeypatch.setattr(torch, "__version__", "0.0.1")
    assert len({*marks, mark(candidates)}) == 6


def test_tasks_with_other_facts_have_files_of_their_own(tmp_path: Path) -> None:
    names = set()
    for task in (None, 0, 1):
        candidates = vocabulary_candidates(CATALOGUE["image_captioning"], tiny_codec(), task)
        names.add(vocabulary.KeptVocabulary(tiny_model(), candidates, tmp_path)._path)
    assert len(names) == 3


def test_a_vocabulary_is_worth_keeping_by_its_words_times_the_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    model, candidates = tiny_model(), vocabulary_candidates(CATALOGUE["image_captioning"], tiny_codec())
    size = tiny_codec().size * sum(parameter.numel() for parameter in model.encoder.parameters())
    for worth, expected in ((size, True), (size + 1, False)):
        monkeypatch.setattr(vocabulary, "_WORTH", worth)
        assert vocabulary.is_worth_keeping(model, candidates) == expected
