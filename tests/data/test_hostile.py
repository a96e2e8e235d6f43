"""Files that want to be executed or to lie elsewhere: nothing of them runs, and nothing is written outside."""

import io
import json
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.faulty_data import picture
from tests.small_run import BASE, values_of, write_recipe
from uniperceiver.cli import main


class Payload:
    """Makes a file where it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.canary}'",)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that must never be there; the payloads do make it."""
    path = tmp_path / "executed"
    pickle.loads(pickle.dumps(Payload(path)))
    assert path.exists()
    path.unlink()
    return path


def payloads(canary: Path) -> dict[str, bytes]:
    """The same thing, packed in several ways."""
    file = io.BytesIO()
    np.save(file, np.array([Payload(canary)], dtype=object), allow_pickle=True)
    yaml = f"!!python/object/apply:os.system [\"touch '{canary}'\"]"
    return {"pickle": pickle.dumps(Payload(canary)), "npy": file.getvalue(), "yaml": yaml.encode()}


def tree(folder: Path) -> set[str]:
    """Everything below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def check_and_prepare(folder: Path, tasks: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Read everything and write what can be; the faults that were named."""
    recipe = write_recipe(folder / "recipe.yaml", {**BASE, "tasks": tasks})
    before = tree(folder)
    assert main(["data", "check", str(recipe), "--json", "--workers", "0"]) == 1
    faults = [fault for one in json.loads(capsys.readouterr().out)["sets"] for fault in one["faults"]]
    assert main(["data", "prepare", str(recipe), "--out", str(folder / "out"), "--workers", "0"]) == 0
    assert {name for name in tree(folder) - before if not name.startswith("out")} == set()
    return faults


@pytest.mark.parametrize("kind", ["pickle", "npy", "yaml"])
def test_nothing_of_a_sample_is_executed(
    kind: str, canary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = payloads(canary)[kind]
    (tmp_path / "p" / "cat").mkdir(parents=True)
    for name, content in {"a.jpg": picture(0), "b.jpg": data, "c.png": data}.items():
        (tmp_path / "p" / "cat" / name).write_bytes(content)
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        members = {"a.jpg": picture(0), "a.json": b'{"says": "good"}', "b.jpg": data, "b.json": b'{"says": "good"}'}
        for name, content in {**members, "c.jpg": picture(1), "c.json": data}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "good", "is": "x"}\n' + data.replace(b"\n", b" ") + b"\n")
    tasks = {
        "p": {"kind": "image_classification", "train": {"format": "folder", "path": "p"}},
        "s": {
            "kind": "image_captioning",
            "train": {"format": "webdataset", "path": "s.tar", "text": "json.says"},
        },
        "r": {
            "kind": "text_classification",
            "train": {"format": "jsonl", "path": "rows.jsonl", "text": "text", "label": "is"},
        },
    }
    faults = check_and_prepare(tmp_path, tasks, capsys)
    assert {fault["sample"] for fault in faults} == {
        "cat/b.jpg",
        "cat/c.png",
        "s.tar/b",
        "s.tar/c",
        "rows.jsonl:2",
    }
    assert not canary.exists()


@pytest.mark.parametrize("kind", ["pickle", "npy", "yaml"])
@pytest.mark.parametrize("where", ["recipe", "vocabulary", "captions", "classes", "only", "start"])
def test_nothing_that_a_recipe_names_is_executed(
    where: str, kind: str, canary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "payload"
    path.write_bytes(payloads(canary)[kind])
    (tmp_path / "p" / "cat").mkdir(parents=True)
    (tmp_path / "p" / "cat" / "a.jpg").write_bytes(picture(0))
    source: dict[str, Any] = {"format": "folder", "path": "p"}
    model: dict[str, Any] = {}
    match where:
        case "vocabulary":
            model["vocabulary"] = "payload"
        case "start":
            (tmp_path / "config.json").write_bytes(payloads(canary)[kind])
            model["start"] = str(tmp_path)
        case "captions":
            source = {"format": "coco_captions", "path": "payload", "images": "p"}
        case "classes":
            source = {"format": "files", "path": "payload", "classes": "payload"}
        case "only":
            source["only"] = "payload"
    kinds = {"captions": "image_captioning"}
    task = {"kind": kinds.get(where, "image_text_retrieval" if model else "image_classification"), "train": source}
    recipe = write_recipe(tmp_path / "recipe.yaml", {"tasks": {"t": task}, "model": model})
    assert main(["data", "check", str(path if where == "recipe" else recipe), "--workers", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("uniperceiver: ")
    assert not canary.exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system ['touch {}']", "!!python/name:os.system"])
def test_no_tag_of_a_recipe_is_executed(
    tag: str, canary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", values_of())
    text = tag.format(canary)
    assert main(["data", "check", str(recipe), f"seed={text}"]) == 2
    recipe.write_text(f"seed: {text}\n{recipe.read_text()}")
    assert main(["data", "check", str(recipe)]) == 2
    assert main(["data", "prepare", str(recipe), "--out", str(tmp_path / "out")]) == 2
    assert "not valid YAML" in capsys.readouterr().err
    assert not canary.exists()
    assert not (tmp_path / "out").exists()


def test_members_that_point_elsewhere_are_neither_read_nor_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "secret.jpg").write_bytes(picture(0))
    links = {"soft": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "device": tarfile.CHRTYPE, "pipe": tarfile.FIFOTYPE}
    with tarfile.open(home / "s.tar", "w") as tar:
        for name in ("../up", "/absolute", "a/../../b", "good", *links):
            for kind, content in (("jpg", picture(1)), ("json", b'{"says": "something"}')):
                info = tarfile.TarInfo(f"{name}.{kind}")
                info.type = links.get(name, tarfile.REGTYPE) if kind == "jpg" else tarfile.REGTYPE
                info.linkname = str(tmp_path / "secret.jpg")
                info.size = len(content) if info.isreg() else 0
                tar.addfile(info, io.BytesIO(content))
    source = {"format": "webdataset", "path": "s.tar", "text": "json.says"}
    before = {*tree(tmp_path), "home/recipe.yaml"}
    faults = check_and_prepare(home, {"../../s": {"kind": "image_captioning", "train": source}}, capsys)
    assert len(faults) == 7
    assert all("good" not in fault["sample"] for fault in faults)
    written = tree(tmp_path) - before
    assert all(name.startswith("home/out") for name in written)
    assert len(list((home / "out").rglob("*.tar"))) == 1
    with tarfile.open(next((home / "out").rglob("*.tar"))) as tar:
        assert tar.getnames() == ["00000003.jpg", "00000003.json"]
