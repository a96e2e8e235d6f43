"""What the command line of a server refuses, in one line, before a model is loaded."""

from pathlib import Path

import pytest

from uniperceiver import cli
from uniperceiver.errors import UserError
from uniperceiver.server.settings import read_limits, read_token


def test_limits_are_read_by_name() -> None:
    limits = read_limits(["queue=3", "head_seconds=0.5", "restarts=0"])
    assert (limits.queue, limits.head_seconds, limits.restarts, limits.batch) == (3, 0.5, 0, 32)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("que=3", "did you mean 'queue'"),
        ("queue", "whole number"),
        ("queue=1.5", "whole number"),
        ("queue=0", "above 0"),
        ("head_seconds=nan", "above 0"),
        ("head_seconds=inf", "above 0"),
        ("body_bytes=-1", "above 0"),
    ],
)
def test_a_limit_that_is_none(word: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_limits([word])


@pytest.mark.parametrize("text", ["", "short", "with a space in it and more", "é" * 20, "two\nlines of text are none"])
def test_a_token_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="token"):
        read_token(path)
    path.write_text("0123456789abcdef\n", encoding="utf-8")
    assert read_token(path) == "0123456789abcdef"
    with pytest.raises(UserError, match="cannot be read"):
        read_token(tmp_path / "none")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--host", "0.0.0.0"], "--token-file FILE, or --open"),
        (["--limit", "que=1"], "unknown limit"),
        (["--port", "99999"], "--port"),
        (["--token-file", "none"], "cannot be read"),
        (["--host", "256.1.1.1", "--open"], "is no address"),
    ],
)
def test_a_command_that_is_refused(
    trained: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert cli.main(["serve", str(trained), *words]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_a_run_that_is_none_and_a_port_that_is_taken(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import socket

    assert cli.main(["serve", str(tmp_path / "none")]) == 2
    assert "neither a saved model" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert cli.main(["serve", str(trained), "--port", port]) == 2
    assert "another program listens" in capsys.readouterr().err


def test_without_the_extra_the_line_says_what_to_install(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("uniperceiver.cli.serve.find_spec", lambda name: None)
    assert cli.main(["serve", str(trained)]) == 2
    assert 'pip install "uniperceiver[serve]"' in capsys.readouterr().err
