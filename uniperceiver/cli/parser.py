"""COMMAND LINE -> CALL: all commands, and which of them a line asks for."""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from uniperceiver import __version__
from uniperceiver.cli import data, embed, interference, models, plan, runs, serve, study
from uniperceiver.cli.options import Command, add_command

COMMANDS: Sequence[Command] = (
    runs.demo,
    plan.plan,
    runs.train,
    runs.tune,
    study.study,
    runs.evaluate,
    runs.report,
    models.predict,
    embed.embed,
    models.convert,
    models.merge,
    models.export,
    models.info,
    serve.serve,
    interference.interference,
    runs.experts,
)
# Commands of two words: what the first word is for, and the functions, which are called FIRST_SECOND.
GROUPS: Mapping[str, tuple[str, Sequence[Command]]] = {
    "data": ("check the data of a recipe, or prepare them for fast reading", (data.data_check, data.data_prepare)),
}


def parse(arguments: Sequence[str] | None) -> partial[int | None]:
    """Read a command line, where key=value may stand before and behind the options.

    Args:
        arguments: the words behind `uniperceiver`; None: those of this process.

    Returns:
        The command, ready to be called.
    """
    parser = argparse.ArgumentParser(
        prog="uniperceiver", description="One Transformer for many perception tasks, without task heads."
    )
    parser.add_argument("--version", action="version", version=f"uniperceiver {__version__}")
    commands: Any = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        add_command(commands, command.__name__, command)
    for name, (summary, members) in GROUPS.items():
        group = commands.add_parser(name, help=summary, description=summary)
        seconds = group.add_subparsers(title="commands", required=True, metavar="COMMAND")
        for command in members:
            add_command(seconds, command.__name__.removeprefix(f"{name}_"), command)
    options, rest = parser.parse_known_args(arguments)
    values = vars(options)
    command = values.pop("command")
    if rest:
        if "overrides" not in values or any("=" not in word or word.startswith("-") for word in rest):
            name = command.__name__.replace("_", " ")
            parser.error(f"unknown argument {rest[0]!r}; see uniperceiver {name} --help")
        values["overrides"] = [*values["overrides"], *rest]
    return partial(command, **values)
