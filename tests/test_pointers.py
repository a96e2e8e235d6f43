"""Files that Git LFS has not fetched are named as that, wherever they are read: none is told to be copied again."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.small_run import small_recipe, train
from uniperceiver import load
from uniperceiver.data.formats import open_source
from uniperceiver.data.media.clips import clip_frames
from uniperceiver.data.media.decode import decode_image
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.model.official.reading import read_original
from uniperceiver.training.checkpoint import newest_valid

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a" * 16 + b"\nsize 12345\n"
MESSAGE = r"a pointer of Git LFS, not the file itself; fetch that with git lfs pull"


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("a.txt", {"format": "text"}),
        ("a.txt", {"format": "files"}),
        ("a.csv", {"format": "csv", "text": "text"}),
        ("a.jsonl", {"format": "jsonl", "text": "text"}),
        ("a.json", {"format": "json", "text": "text"}),
        ("a.json", {"format": "coco_captions", "images": "."}),
        ("a.parquet", {"format": "parquet", "text": "text"}),
        ("a.tar", {"format": "webdataset"}),
        ("a.npz", {"format": "arrays"}),
        ("a.npy", {"format": "arrays"}),
    ],
)
def test_data_that_git_lfs_has_not_fetched_are_refused(tmp_path: Path, name: str, source: dict[str, Any]) -> None:
    (tmp_path / name).write_bytes(POINTER)
    with pytest.raises(UserError, match=rf"^here: {tmp_path}/{name} is {MESSAGE}$"):
        open_source({**source, "path": name}, "here", tmp_path)


def test_a_picture_or_clip_that_git_lfs_has_not_fetched_is_broken() -> None:
    with pytest.raises(BrokenSample, match=f"^a.png: {MESSAGE}$"):
        decode_image(POINTER, "a.png")
    with pytest.raises(BrokenSample, match=f"^a.mp4: {MESSAGE}$"):
        list(clip_frames(POINTER, "a.mp4"))


def test_models_that_git_lfs_has_not_fetched_are_refused(tmp_path: Path) -> None:
    train(tmp_path / "run", small_recipe(("colours",), steps=1))
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        shutil.copytree(tmp_path / "run/model", tmp_path / name)
        (tmp_path / name / name).write_bytes(POINTER)
        with pytest.raises(UserError, match=rf"{tmp_path}/{name}/{name} is {MESSAGE}$"):
            load(tmp_path / name)
    (tmp_path / "a.pth").write_bytes(POINTER)
    with pytest.raises(UserError, match=rf"^{tmp_path}/a.pth is {MESSAGE}$"):
        read_original(tmp_path / "a.pth")
    checkpoints = tmp_path / "run/checkpoints"
    (checkpoints / "step-000001/model.safetensors").write_bytes(POINTER)
    with pytest.raises(UserError, match=f"step-000001/model.safetensors is {MESSAGE}"):
        newest_valid(checkpoints)
    (checkpoints / "step-000001/state.json").write_bytes(POINTER)
    with pytest.raises(UserError, match=f"step-000001/state.json is {MESSAGE}"):
        newest_valid(checkpoints)


def test_what_is_no_npz_file_is_not_said_to_be_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text(json.dumps({}))
    with pytest.raises(UserError, match=r"a\.npz: not an \.npz file; is it complete\?$"):
        open_source({"format": "arrays", "path": "a.npz"}, "here", tmp_path)
