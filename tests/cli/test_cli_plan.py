"""The command `plan`: a page or JSON; what cannot be is one line with exit code 2."""

import dataclasses
import json
from pathlib import Path

import pytest

from tests.small_run import values_of, write_recipe
from uniperceiver.cli import main
from uniperceiver.runs.plan.devices import DEVICES


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "recipe.yaml", values_of(("colours",)))


def test_a_plan_is_a_page(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(recipe), "--devices", "2xH100", "--simulate", "2"]) == 0
    text = capsys.readouterr().out
    assert "parameters  " in text
    assert "ddp fits: " in text
    assert "simulated: a step of the first of 2 processes" in text
    assert sorted(path.name for path in recipe.parent.iterdir()) == ["recipe.yaml"]  # it writes nothing


def test_a_plan_is_json(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(recipe), "sampling.tasks_per_step=4", "--json", "--mfu", "0.5"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["batches"] == 4
    assert values["cluster"] is None
    assert values["wraps"]["ddp"]["seconds"] is None
    assert values["tasks"]["colours"]["inputs"]["saved"] > 0


def test_what_does_not_fit_is_a_line_with_numbers(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DEVICES, "T4", dataclasses.replace(DEVICES["T4"], memory=1e5))  # type: ignore[misc]
    assert main(["plan", str(recipe), "--devices", "T4"]) == 2
    printed = capsys.readouterr()
    assert "parameters  " in printed.out
    (line,) = [line for line in printed.err.splitlines() if line.startswith("uniperceiver: ")]
    assert f"{recipe}: does not fit on 1 T4 of 100 kB: weights and what belongs to them + activations are ddp " in line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--devices", "8xH10"], "--devices 8xH10: no device 'H10'; did you mean 'H100'"),
        (["--devices", "3xH100"], "a step has 2 batches for 3 processes; set sampling.tasks_per_step=3 or more"),
        (["--mfu", "40"], "--mfu 40: is a share; give a number above 0 and up to 1"),
        (["--bandwidth", "0"], "--bandwidth 0: give GB per second, more than 0"),
        (["--simulate", "1"], "--simulate 1: one process sends nothing; give 2 or more"),
        (["model.size=hugo"], "model.size 'hugo' is unknown"),
    ],
)
def test_a_slip_is_one_line(words: list[str], line: str, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(recipe), *words]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"uniperceiver: {line}")
    assert printed.err.count("\n") == 1
    assert not printed.out
