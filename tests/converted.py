"""Conversions by the command line, as several tests need them."""

from pathlib import Path

import pytest

from tests.model.official.made_up import HEADS, original
from uniperceiver.cli import main

DENSE, MOE = original(), original(moe=True)


def run(path: Path, *options: str, heads: int = HEADS) -> Path:
    """The folder that the command has written, beside the checkpoint."""
    out = path.parent / "model"
    assert main(["convert", str(path), "--out", str(out), "--heads", str(heads), "--replace", *options]) == 0
    return out


def said(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line about a mistake."""
    capsys.readouterr()
    assert main(["convert", *map(str, words)]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    (line,) = streams.err.splitlines()
    assert line.startswith("uniperceiver: ")
    return line
