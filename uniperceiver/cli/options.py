"""FUNCTION -> OPTIONS: a command is a function, whose parameters are its words and options.

A positional parameter is a word, a keyword-only one the option `--name`, which must be given if it has no default. Its
type says what is read; `arg` in its annotation says what helps people.
"""

import argparse
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

Command = Callable[..., int | None]


def arg(help: str | None = None, **keywords: Any) -> Mapping[str, Any]:
    """Describe a parameter of a command: its help, another `option` than its name, and what else argparse knows."""
    return {"help": help, **keywords}


def add_command(commands: Any, name: str, command: Command) -> None:
    """Add the parser of a command to argparse's subparsers; its summary is the function's docstring."""
    summary = (command.__doc__ or "").partition("\n")[0].removesuffix(".")  # python -OO has no docstrings
    summary = summary[:1].lower() + summary[1:]
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    parser.set_defaults(command=command)
    hints = typing.get_type_hints(command, include_extras=True)
    for parameter in inspect.signature(command).parameters.values():
        kind, described = typing.get_args(hints[parameter.name])
        keywords = {**_reading(kind), **described}
        is_word = parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if parameter.default is not parameter.empty:
            keywords["default"] = parameter.default
        elif not is_word:
            keywords["required"] = True
        if not is_word and "action" not in keywords:
            keywords["action"] = "extend" if "nargs" in keywords else _Once
        option = keywords.pop("option", f"--{parameter.name.replace('_', '-')}")
        parser.add_argument(*([] if is_word else [option]), dest=parameter.name, **keywords)


class _Once(argparse.Action):
    """An option with one value: a second one is refused, as nobody can tell which was meant."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        if getattr(namespace, self.dest, self.default) is not self.default:
            parser.error(f"{option} is given twice; give it once")
        setattr(namespace, self.dest, values)


def _reading(kind: Any) -> dict[str, Any]:
    """What argparse must know to read a type: bool, T, list[T], a Literal of texts, or one of these or None."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        (kind,) = (member for member in typing.get_args(kind) if member is not types.NoneType)
    if kind is bool:
        return {"action": "store_true"}
    if typing.get_origin(kind) is list:
        return {**_reading(typing.get_args(kind)[0]), "nargs": "+"}
    return {"choices": typing.get_args(kind)} if typing.get_origin(kind) is Literal else {"type": kind}
