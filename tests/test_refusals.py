"""What the command line refuses at the start: exit code 2, one line that says how to mend it, nothing saved is lost."""

import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.config.test_recipe import RECIPES, SOURCES, misspelt
from tests.refused import REFUSALS, SETTINGS, TASKS, files_of, flipped, going_on
from tests.small_run import small_recipe, train, values_of, write_recipe
from uniperceiver.atomic import only_one
from uniperceiver.cli import main
from uniperceiver.training import checkpoint


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with two checkpoints; nobody may change it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(folder, small_recipe(TASKS, **SETTINGS))
    return folder


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a wider model."""
    folder = tmp_path_factory.mktemp("runs") / "wide"
    train(folder, small_recipe(TASKS, **SETTINGS, model__width=32))
    return folder


@pytest.fixture
def place(tmp_path: Path, run: Path, wide: Path) -> Path:
    """A folder with copies of both runs, and with their recipe."""
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(wide, tmp_path / "wide")
    write_recipe(tmp_path / "r.yaml", values_of(TASKS, **SETTINGS))
    return tmp_path


def one_line(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    """The only line of a command that is refused."""
    assert main(words) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    (line,) = streams.err.splitlines()
    assert line.startswith("uniperceiver: ")
    return line


def contents(place: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in files_of(place, "**/*")}


@pytest.mark.parametrize("name", REFUSALS)
def test_it_is_refused_in_one_line_and_nothing_is_lost(
    place: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    build, message = REFUSALS[name]
    words = build(place)
    before = contents(place)
    assert message.replace("{place}", str(place)) in one_line(capsys, words)
    after = contents(place)
    assert {path: after.get(path) for path in before} == before
    assert not (place / "new").exists()


def test_a_second_run_in_a_folder_is_refused_before_it_changes_anything(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(place / "run")
    with only_one(place / "run") as alone:
        assert alone
        line = one_line(capsys, going_on(place, "steps=9"))
    assert line.endswith("run: another process is training in this folder; wait for it, or use --out")
    assert contents(place / "run") == before


def test_one_damaged_checkpoint_is_passed_over_and_said(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uniperceiver.runs.train.evaluate", lambda *args, **more: {"tasks": {}})
    monkeypatch.setattr("uniperceiver.runs.train.write_report", lambda folder, *more, **options: folder / "report.html")
    monkeypatch.setenv("COLUMNS", "1000")
    expected = checkpoint.read(place / "run" / "checkpoints" / "step-000004")[1]
    (path,) = files_of(place, "run/checkpoints/step-000004/optimiser.safetensors")
    path.write_bytes(flipped(path.read_bytes()))
    assert main(going_on(place)) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(r"not used: \S+optimiser.safetensors: damaged, .* going on after step 2", said)
    assert checkpoint.read(place / "run" / "checkpoints" / "step-000004")[1] == expected


def alone(values: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """The recipe with nothing to open before the source whose key is misspelt."""
    if len(keys) < 4 or keys[2] not in SOURCES:
        return values
    _, task, split, _ = keys
    chosen = {key: each for key, each in values["tasks"][task].items() if key not in SOURCES or key == split}
    return {**values, "tasks": {task: chosen}}


def test_two_hundred_typos_are_refused_and_the_right_key_is_offered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for recipe in RECIPES:
        for name in re.findall(r"\$\{(\w+)\}", recipe.read_text(encoding="utf-8")):
            monkeypatch.setenv(name, str(tmp_path))
    every = [each for recipe in RECIPES for each in misspelt(recipe)]
    offered = 0
    for values, keys, typo in random.Random(0).sample(every, 200):
        path = tmp_path / "r.yaml"
        path.write_text(yaml.safe_dump(alone(values, keys), sort_keys=False), encoding="utf-8")
        line = one_line(capsys, ["train", str(path), "--out", str(tmp_path / "run")])
        assert keys[-1] in line, (keys, typo)
        offered += f"{typo}'; did you mean {keys[-1]!r}?" in line
        assert not (tmp_path / "run").exists(), (keys, typo)
    assert offered >= 170  # else the line says that a key is missing, without which others have no meaning


def test_what_the_rows_spoil_is_otherwise_taken(place: Path) -> None:
    assert train(place / "run", small_recipe(TASKS, **SETTINGS)).state.step == 4
