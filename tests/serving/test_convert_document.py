"""The document of converted checkpoints names commands, options and fields that exist."""

import dataclasses
import re

from tests.markdown import blocks, commands, read, section
from uniperceiver.cli.parser import parse
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.official.variant import Choices

DOCUMENT = "docs/original-checkpoints.md"


def test_its_commands_are_understood() -> None:
    lines = [words for block in blocks(DOCUMENT, "bash") for words in commands(block)]
    assert len(lines) == 4
    for words in lines:
        assert parse(words[1:]).keywords["out"]


def test_its_differences_are_fields_of_the_architecture() -> None:
    first = re.findall(r"^\| (`.*?) \|", section(DOCUMENT, "## What differs on purpose"), re.MULTILINE)
    named = set(re.findall(r"`(\w+)`", " ".join(first)))
    assert len(named) > 6
    assert named <= {field.name for field in dataclasses.fields(Architecture)}  # type: ignore[arg-type]


def test_every_option_is_explained() -> None:
    given = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(Choices)}
    assert given | {"--vocabulary", "--report"} <= set(re.findall(r"--[\w-]+", read(DOCUMENT)))
