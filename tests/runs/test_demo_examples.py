"""What the demo leaves to be asked about: files named after what they show, and commands that work as they stand."""

import shlex
from pathlib import Path

import numpy as np
import pytest

from tests.small_run import small_recipe
from uniperceiver.cli import main
from uniperceiver.data.media.clips import decode_clip
from uniperceiver.data.media.decode import decode_image
from uniperceiver.runs import demo_examples
from uniperceiver.runs.demo_examples import write_examples

TASKS = ("colours", "motions", "captions")


def test_files_are_named_after_what_they_show(tmp_path: Path) -> None:
    commands = write_examples(tmp_path, small_recipe(TASKS))
    files = sorted(path.name for path in (tmp_path / "examples").iterdir())
    assert len(files) == 7
    assert "small_white_circle.png" in files
    (clip,) = [name for name in files if name.endswith(".mp4")]
    assert clip.count("_") >= 2
    picture = decode_image((tmp_path / "examples/small_white_circle.png").read_bytes(), "p")
    assert picture.shape == (96, 96, 3)
    assert (picture > 200).all(axis=2).any()  # it is white
    frames = decode_clip((tmp_path / "examples" / clip).read_bytes(), "c", lambda count: np.arange(count))
    assert frames.shape == (16, 96, 96, 3)
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 50  # it moves
    assert [shlex.split(command)[3:6] for command in commands] == [
        ["classify", "--task", "colours"],
        ["caption", "--task", "captions"],
        ["classify", "--task", "motions"],
    ]


def test_the_commands_work(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").symlink_to(trained)
    examples = tmp_path / "examples"
    examples.mkdir()
    for command in write_examples(tmp_path, small_recipe(TASKS)):
        _, *words = shlex.split(command.replace(f"predict {tmp_path} ", f"predict {trained} "))
        assert main(words) == 0
    assert capsys.readouterr().out.count(".png") >= 4


def test_there_are_commands_for_what_can_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert write_examples(tmp_path, small_recipe(("words", "relations"))) == []
    monkeypatch.setattr(demo_examples, "find_spec", lambda name: None)
    assert [shlex.split(command)[5] for command in write_examples(tmp_path, small_recipe(TASKS))] == [
        "colours",
        "captions",
    ]
