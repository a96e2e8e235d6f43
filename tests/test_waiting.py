"""What takes longer than a moment is said, and nothing else."""

import time

import pytest

from uniperceiver import waiting
from uniperceiver.waiting import announced, bars


@pytest.fixture(autouse=True)
def short_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MOMENT", 0.02)
    monkeypatch.setattr(waiting, "BETWEEN", 0.03)


def test_a_long_block_is_announced_and_followed(capsys: pytest.CaptureFixture[str]) -> None:
    with announced("making [red] things"):
        time.sleep(0.15)
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first == "making [red] things ..."
    assert second == "making [red] things: 0 s"


def test_a_short_or_quiet_block_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with announced("making things"):
        pass
    with announced("making things", quiet=True):
        time.sleep(0.04)
    with pytest.raises(KeyError), announced("making things"):
        raise KeyError
    assert capsys.readouterr().err == ""


def test_lines_stand_for_bars_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        with bars(quiet=quiet) as shown:
            shown.move("files", 1, 2000)
            for done in (1000, 1001):
                time.sleep(0.025)
                shown.move("files", done, 2000)
            shown.remove("files")
        assert capsys.readouterr().err == ("" if quiet else "files: 1,000 of 2,000\n")


def test_a_terminal_has_bars(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with bars() as shown:
        shown.move("files", 1, 2)
        shown.move("files", 2, 2)
        shown.remove("files")
    assert " of " not in capsys.readouterr().err
