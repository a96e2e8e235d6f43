"""What cannot be used is named by `predict` in one line, and by the same question in Python."""

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.faulty_data import clip, picture, spoiled
from uniperceiver import UniPerceiver
from uniperceiver.cli import main
from uniperceiver.errors import UserError

FILES = [
    ("truncated.jpg", "Truncated File Read"),
    ("empty.jpg", "the file is empty"),
    ("html.jpg", "it looks like a web page"),
    ("bomb.png", "more than 40 megapixels"),
    ("missing.jpg", "cannot be read (No such file or directory)"),
    ("unreadable.jpg", "cannot be read (Too many levels of symbolic links)"),
    ("folder.jpg", "no images, clips or sounds in this folder; give another one, or files"),
    ("frameless.avi", "no frames"),
    ("truncated.avi", "clip"),
    ("empty.avi", "the file is empty"),
    ("shard.png", "not a JPEG, PNG, WebP, BMP or GIF image"),
]


@pytest.mark.parametrize(("name", "reason"), FILES)
def test_a_file_that_cannot_be_used(
    name: str, reason: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, fault = tmp_path / name, Path(name).stem
    if fault == "unreadable":
        path.symlink_to(path)
    elif fault == "folder":
        path.mkdir()
    elif fault == "shard":
        tarfile.open(path, "w").close()
    elif fault != "missing":
        path.write_bytes(spoiled(clip(0) if path.suffix == ".avi" else picture(0), fault))
    good = tmp_path / f"good{path.suffix}"
    good.write_bytes(clip(1) if path.suffix == ".avi" else picture(1))
    assert main(["predict", str(trained), "caption", "--", str(good)]) == 0
    capsys.readouterr()
    for question in (["caption"], ["classify", "--labels", "a", "b"], ["rank", "--texts", "a", "b"]):
        assert main(["predict", str(trained), *question, "--", str(good), str(path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"uniperceiver: {path}: ")
        assert reason.lower() in line.lower()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda model: model.classify(["", "a"], labels=["a", "b"]), "text 0: has no text"),
        (lambda model: model.classify(["a", float("nan")], labels=["a", "b"]), "text 1: nan is no text"),
        (lambda model: model.classify("half \ud83d", labels=["a", "b"]), r"text 0: not valid UTF-8 \(character 5\)"),
        (lambda model: model.caption(np.full((8, 8, 3), np.nan)), "image 0: values must be uint8, or floats"),
        (lambda model: model.encode_video(np.zeros((0, 8, 8, 3), dtype=np.uint8)), "clip 0: an array of shape"),
    ],
)
def test_values_that_cannot_be_used(ask: Callable[[UniPerceiver], Any], message: str, model: UniPerceiver) -> None:
    with pytest.raises(UserError, match=message):
        ask(model)
