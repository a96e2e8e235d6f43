"""What is left out of the data is said at the start of a run, in its log, and by a check."""

from pathlib import Path

import pytest

from tests.made_data import items, write_files
from tests.small_run import BASE, log_lines, merged, write_recipe
from tests.tuned import write_pictures
from uniperceiver.cli import main
from uniperceiver.config import Recipe
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.strict import parse


def test_files_that_are_not_taken_are_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_files(tmp_path / "things", items())
    for name in ("notes.psd", "owl/a.psd"):
        (tmp_path / "things" / name).touch()
    source = {"format": "folder", "path": "things"}
    task = {
        "kind": "image_classification",
        "train": source,
        "val": {**source, "part": [0, 0.5]},
        "size": 32,
        "batch": 2,
    }
    values = merged(BASE, {"tasks": {"things": task}, "steps": 2})
    prepare_run(parse(Recipe, values, "r"), tmp_path, tmp_path / "run", quiet=True).train()
    said = "2 files are not taken: 2 .psd"
    (note,) = [line["text"] for line in log_lines(tmp_path / "run", "note") if said in line["text"]]
    assert note == f"things/train, things/val: {tmp_path / 'things'}: {said}"
    assert said in capsys.readouterr().err.replace("\n", " ")
    assert main(["data", "check", str(write_recipe(tmp_path / "r.yaml", values)), "--workers", "0"]) == 0
    assert f"  {tmp_path / 'things'}: {said}" in capsys.readouterr().out.splitlines()
    out = str(tmp_path / "out")
    for _ in range(2):
        assert main(["data", "prepare", str(tmp_path / "r.yaml"), "--out", out, "--workers", "0"]) == 0
        assert said in capsys.readouterr().out


def test_classes_without_a_sample_are_said(tmp_path: Path) -> None:
    """A part is drawn sample by sample: of a class with one picture, the picture is in one of the parts."""
    write_pictures(tmp_path / "things", each=3)
    only = min(path.name for path in (tmp_path / "things").iterdir())
    for extra in sorted((tmp_path / "things" / only).iterdir())[1:]:
        extra.unlink()
    (tmp_path / "train.txt").write_text(
        "".join(f"{line}\n" for line in listed_files(tmp_path / "things", without=only))
    )
    source = {"format": "folder", "path": "things"}
    task = {"kind": "image_classification", "train": {**source, "only": "train.txt"}, "val": source, "size": 32}
    values = merged(BASE, {"tasks": {"things": task}, "steps": 2})
    notes = prepare_run(parse(Recipe, values, "r"), tmp_path, tmp_path / "run", quiet=True).notes
    said = [note for note in notes if "without a sample" in note]
    assert said == [
        f"things/train: classes without a sample: {only!r}; they are not learnt here: add samples, or remove them from "
        "the classes"
    ]
    task |= {"train": source, "val": {**source, "only": "train.txt"}}
    notes = prepare_run(parse(Recipe, values, "r"), tmp_path, tmp_path / "run2", quiet=True).notes
    said = [note for note in notes if "without a sample" in note]
    assert said == [f"things/val: classes without a sample: {only!r}; its figures say nothing of them"]


def listed_files(folder: Path, without: str) -> list[str]:
    """The files of all classes but one."""
    return [path.relative_to(folder).as_posix() for path in sorted(folder.glob("*/*")) if path.parent.name != without]
