"""What a launched process says: the first speaks for all, another one of what it alone has."""

from pathlib import Path

import pytest

from tests.small_run import values_of, write_recipe
from uniperceiver import cli
from uniperceiver.cli import main
from uniperceiver.errors import UserError
from uniperceiver.parallel.environment import AGREED, ALONE, ProcessLost


def second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")


def test_what_all_refuse_one_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", values_of(steps=-1))
    words = ["train", str(recipe), "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "steps" in capsys.readouterr().err
    second(monkeypatch)
    assert main(words) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("note", "said"), [(AGREED, ""), (ALONE, "uniperceiver: mend it\n"), (None, "")])
def test_notes_say_who_speaks(
    note: str | None, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> None:
        error = UserError("mend it")
        if note is not None:
            error.add_note(note)
        raise error

    monkeypatch.setattr(cli, "launched", refused)
    second(monkeypatch)
    assert main(["info"]) == 2
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("speaks", [True, False])
def test_a_lost_process_is_named_once(
    speaks: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lost(*_: object) -> None:
        raise ProcessLost("process 1 is lost", speaks=speaks)

    monkeypatch.setattr(cli, "launched", lost)
    assert main(["info"]) == 76
    assert capsys.readouterr().err == ("uniperceiver: process 1 is lost\n" if speaks else "")
