"""Fenced blocks of the Markdown files, as the tests of the documents need them."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block."""

    language: str
    text: str


def read(name: str) -> str:
    """A document, by its path from the root of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, *languages: str) -> list[Block]:
    """The blocks of a document in those languages, in order."""
    blocks = [Block(*match) for match in _BLOCK.findall(read(name))]
    return [block for block in blocks if block.language in languages]


def commands(block: Block) -> list[list[str]]:
    """The words of each command line of a bash block, without comments."""
    lines = (shlex.split(line, comments=True) for line in block.text.splitlines())
    return [words for words in lines if words]


def section(name: str, heading: str) -> str:
    """The text below a heading, up to the next of its kind."""
    level = heading.split()[0]
    _, _, rest = read(name).partition(f"\n{heading}\n")
    assert rest, f"{name} has no section {heading!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]
