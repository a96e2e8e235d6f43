"""What `uniperceiver convert` refuses, and loading afterwards: one line, exit code 2, nothing written or lost."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.converted import MOE, run, said
from tests.model.official.made_up import HEADS, State, older, without, write
from tests.model.official.test_reading import Hostile
from uniperceiver import load
from uniperceiver.cli import main
from uniperceiver.errors import UserError

SPOILED: dict[str, Callable[[Path, State], Any]] = {
    "truncated": lambda path, state: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "text": lambda path, state: path.write_text("<!DOCTYPE html>"),
    "another program's": lambda path, state: write(path, {"layer1.0.conv1.weight": torch.ones(2, 3, 3, 3)}),
    "no model": lambda path, state: torch.save({"epoch": 3}, path),
    "first half": lambda path, state: write(path, dict(list(older(state).items())[: len(state) // 2]), "module"),
    "second half": lambda path, state: write(path, dict(list(older(state).items())[len(state) // 2 :]), "module"),
    "every other tensor": lambda path, state: write(path, dict(list(older(state).items())[::2]), "module"),
    "no expert": lambda path, state: write(path, without(state, "linear1.experts.deepspeed_experts.0")),
    "no layer": lambda path, state: write(path, without(state, "layers.1.")),
    "another size": lambda path, state: write(path, {**state, "loss_prepare.proj.weight": torch.ones(8, 8)}),
    "hostile": lambda path, state: torch.save({"model": state, "args": Hostile(path.parent / "executed")}, path),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_spoiled_file_leaves_everything_as_it_was(
    what: str, dense: Path, moe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = run(dense)
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    SPOILED[what](moe, MOE)
    names = sorted(path.name for path in tmp_path.iterdir())
    for out in (tmp_path / "new", kept):
        assert str(moe) in said(capsys, moe, "--out", out, "--heads", HEADS)
        assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    assert not (tmp_path / "executed").exists()


def test_other_peoples_files_are_not_replaced(dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    assert "holds other files, such as thesis.tex" in said(capsys, dense, "--out", folder, "--heads", HEADS)
    assert "dense.pth: is a file; give a folder" in said(capsys, dense, "--out", dense, "--heads", HEADS)
    assert (folder / "thesis.tex").read_text() == "years of work"


def test_another_model_is_replaced_only_where_it_is_said(
    dense: Path, moe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = run(dense)
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    line = said(capsys, moe, "--out", kept, "--heads", HEADS)
    assert "holds another model (converted from dense.pth of the original release), which would be lost; give" in line
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    assert main(["convert", str(dense), "--out", str(kept), "--heads", str(HEADS)]) == 0  # the same again
    capsys.readouterr()
    run(moe)
    assert "dense.pth of the original release) was there, and is replaced" in capsys.readouterr().err


def edited(folder: Path, section: str, fields: dict[str, Any]) -> None:
    """Change fields of config.json; those of the experts are named moe.NAME."""
    config = json.loads((folder / "config.json").read_text())
    for name, value in fields.items():
        *parents, last = name.split(".")
        place = config[section] if not parents else config[section][parents[0]]
        place[last] = value
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"moe.layout": "paper"}, "says layout paper, but these weights of the original release (moe.pth) were conver"),
        ({"moe.ffn_gates": 2}, "says ffn_gates own, but"),
        ({"moe": None}, "says layout none, but"),
        ({"heads": 4}, "says heads 4, but"),
        ({"spatial": "sincos"}, "says positions sincos, but"),
        ({"reference_grid": 14.0}, "says reference_grid 14.0, but"),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_refused(fields: dict[str, Any], message: str, moe: Path) -> None:
    folder = run(moe)
    edited(folder, "architecture", fields)
    with pytest.raises(UserError) as caught:
        load(folder)
    assert str(caught.value).startswith(f"{folder / 'config.json'}: {message}")
    assert str(caught.value).endswith("restore config.json, or convert the file again")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layout": "paper"}, "key 'layout' has a wrong value 'paper'"),
        ({"sha": 1}, "unknown key 'sha'; did you mean 'sha256'?"),
        ({"heads": 0}, "key 'heads' has a wrong value 0"),
    ],
)
def test_an_origin_of_something_else(fields: dict[str, Any], message: str, moe: Path) -> None:
    folder = run(moe)
    edited(folder, "origin", fields)
    with pytest.raises(UserError) as caught:
        load(folder)
    assert f"config.json: origin: {message}" in str(caught.value)
