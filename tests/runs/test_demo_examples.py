"""What the demo leaves to be asked about: files named after what they show, commands and questions that work."""

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.small_run import small_recipe
from uniperceiver import UniPerceiver
from uniperceiver.cli import main
from uniperceiver.data.media.clips import decode_clip
from uniperceiver.data.media.decode import decode_image
from uniperceiver.data.scenes.scene import COLOURS, MOTIONS, SHAPES, relation
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.runs import demo_examples
from uniperceiver.runs.demo_examples import ask, commands, write_examples

TASKS = ("colours", "motions", "captions")
ALL = (*TASKS, "relations", "retrieval")


def test_files_are_named_after_what_they_show(tmp_path: Path) -> None:
    written = commands(tmp_path, small_recipe(TASKS), write_examples(tmp_path))
    files = sorted(path.name for path in (tmp_path / "examples").iterdir())
    assert len(files) == 8
    assert "small_white_circle.png" in files
    clip, _ = [name for name in files if name.endswith(".mp4")]
    assert clip.count("_") >= 2
    picture = decode_image((tmp_path / "examples/small_white_circle.png").read_bytes(), "p")
    assert picture.shape == (96, 96, 3)
    assert (picture > 200).all(axis=2).any()  # it is white
    frames = decode_clip((tmp_path / "examples" / clip).read_bytes(), "c", lambda count: np.arange(count))
    assert frames.shape == (8, 96, 96, 3)
    assert np.abs(frames[0].astype(int) - frames[4]).max() > 50  # it moves
    assert [shlex.split(command)[3:6] for command in written] == [
        ["classify", "--task", "colours"],
        ["caption", "--task", "captions"],
        ["classify", "--task", "motions"],
    ]


def test_the_commands_work(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands(trained, small_recipe(TASKS), write_examples(tmp_path)):
        assert main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out.count(".png") >= 4


def test_there_are_commands_for_what_can_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert commands(tmp_path, small_recipe(("words", "relations")), write_examples(tmp_path)) == []
    monkeypatch.setattr(demo_examples, "find_spec", lambda name: None)
    written = commands(tmp_path, small_recipe(TASKS), write_examples(tmp_path))
    assert [shlex.split(command)[5] for command in written] == ["colours", "captions"]


def test_ten_questions_have_answers(model: UniPerceiver, tmp_path: Path) -> None:
    answers = list(ask(model, small_recipe(ALL), write_examples(tmp_path)))
    assert len(answers) == 10
    assert all(asked.answer for asked in answers)
    assert len(list(ask(model, small_recipe(("words", "relations")), write_examples(tmp_path)))) == 1


class _Knowing:
    """Answers from the names of the files, and all that it is asked it gets right, or wrong."""

    def __init__(self, right: bool) -> None:
        self._right = right

    def labels(self, task: str) -> list[str]:
        pairs = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
        return {"colours": pairs, "motions": list(MOTIONS), "relations": ["left of the other", "right of the other"]}[
            task
        ]

    def classify(self, asked: list[Any], task: str) -> torch.Tensor:
        names = self.labels(task)
        if task == "relations":
            true = relation(*ScenesSource(items=1, split="test", view="text", label="relation").scene(0).things)
            scores = [float(name.startswith(true)) for name in names]
        else:
            stem = asked[0].stem.replace("_", " ")
            scores = [float(name in stem) for name in names]
        assert sum(scores) == 1
        return torch.tensor([scores if self._right else [1 - score for score in scores]])

    def caption(self, asked: list[Path], task: str) -> list[str]:
        return ["a " + asked[0].stem.replace("_", " ") if self._right else "a smaller thing"]

    def rank(self, asked: list[Path], texts: list[str], task: str) -> torch.Tensor:
        words = asked[0].stem.split("_")
        scores = [float(all(word in text for word in words)) for text in texts]
        return torch.tensor([scores if self._right else [1 - score for score in scores]])


@pytest.mark.parametrize("right", [True, False])
def test_right_answers_are_told_from_wrong_ones(tmp_path: Path, right: bool) -> None:
    recipe: Any = SimpleNamespace(tasks=small_recipe(ALL).tasks)
    answers = list(ask(_Knowing(right), recipe, write_examples(tmp_path)))  # type: ignore[arg-type]
    assert [asked.right for asked in answers] == [right] * 10, answers
