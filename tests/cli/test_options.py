"""A function's signature becomes the words and options of its command."""

import argparse
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from uniperceiver.cli.options import add_command, arg
from uniperceiver.cli.parser import COMMANDS, GROUPS


def toy(
    run: Annotated[Path, arg(metavar="RUN")],
    question: Annotated[Literal["what", "where"], arg()],
    words: Annotated[list[str], arg("any words", nargs="*")],
    *,
    out_file: Annotated[Path, arg("must be given")],
    count: Annotated[int | None, arg("a number")] = None,
    share: Annotated[float, arg("default: %(default)s")] = 0.5,
    splits: Annotated[list[Literal["val", "test"]] | None, arg(action="append", nargs=None)] = None,
    names: Annotated[list[str] | None, arg(metavar="NAME")] = None,
    asked: Annotated[str | None, arg("another name", option="--what")] = None,
    loud: Annotated[bool, arg("say more")] = False,
) -> int | None:
    """Do something.

    More about it, which no summary has.
    """
    return None


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers(), "toy", toy)
    return parser


def values(parser: argparse.ArgumentParser, line: str) -> dict[str, Any]:
    return vars(parser.parse_args(line.split()))


def test_types_and_defaults_are_those_of_the_parameters(parser: argparse.ArgumentParser) -> None:
    assert values(parser, "toy runs/a what --out-file x") == {
        "command": toy, "run": Path("runs/a"), "question": "what", "words": [], "out_file": Path("x"), "count": None,
        "share": 0.5, "splits": None, "names": None, "asked": None, "loud": False,
    }  # fmt: skip
    line = "toy r where a b --out-file x --count 3 --share 0.25 --splits val --splits test --loud --what x --names c d"
    assert values(parser, line) == {
        "command": toy, "run": Path("r"), "question": "where", "words": ["a", "b"], "out_file": Path("x"), "count": 3,
        "share": 0.25, "splits": ["val", "test"], "names": ["c", "d"], "asked": "x", "loud": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("toy r what", "the following arguments are required: --out-file"),
        ("toy r why --out-file x", "argument question: invalid choice: 'why'"),
        ("toy r what --out-file x --count many", "argument --count: invalid int value: 'many'"),
        ("toy r what --out-file x --splits train", "argument --splits: invalid choice: 'train'"),
    ],
)
def test_what_is_refused(
    parser: argparse.ArgumentParser, line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(line.split())
    assert message in capsys.readouterr().err


def test_without_docstrings_commands_have_no_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy, "__doc__", None)  # as python -OO makes it
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers(), "toy", toy)
    assert values(parser, "toy r what --out-file x")["command"] is toy


def test_the_summary_is_the_first_line_of_the_docstring(
    parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    shown = capsys.readouterr().out
    assert "do something" in shown
    assert "More about it" not in shown


def test_every_command_can_be_added_and_has_a_summary() -> None:
    commands = [*COMMANDS, *(command for _, members in GROUPS.values() for command in members)]
    for command in commands:
        add_command(argparse.ArgumentParser().add_subparsers(), command.__name__, command)
        assert (command.__doc__ or "").partition("\n")[0].endswith("."), command.__name__
