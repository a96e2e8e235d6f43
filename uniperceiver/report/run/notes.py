"""What did not go smoothly: warnings, broken samples, skipped steps, notes; and the recipe."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uniperceiver.report.parts.numbers import count, finite
from uniperceiver.report.run.records import RunReport

_MOST_ROWS = 50
_KEY = re.compile(r"^(\s*(?:- )?)([^\s:#'\"{\[][^:#]*)(:)(?=\s|$)(.*)$")


@dataclass(frozen=True, kw_only=True)
class NoteTable:
    """Holds lines of the log of one kind."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    total: int  # with those that are not shown


@dataclass(frozen=True, kw_only=True)
class RecipeLine:
    """Holds a line of YAML: its key, if it has one, and what stands before and behind it."""

    before: str
    key: str
    rest: str
    is_comment: bool


def note_tables(report: RunReport) -> list[NoteTable]:
    """Gather warnings, broken samples, skipped steps and notes of the log, each kind that there is in a table."""
    kinds = (
        ("warning", "Warnings", ("step", "warning"), ("text",)),
        ("broken", "Samples left out", ("step", "task", "sample", "reason"), ("task", "sample", "reason")),
        ("skipped", "Steps skipped", ("step", "reason", "samples"), ()),
        ("note", "Other notes", ("step", "note"), ("text",)),
    )
    tables = []
    for event, title, columns, keys in kinds:
        lines = [line for line in report.log if line.get("event") == event]
        rows = [
            (count(finite(line.get("step"))), *(str(line.get(key, "")) for key in keys), *_skipped(event, line))
            for line in lines[:_MOST_ROWS]
        ]
        if lines:
            tables.append(NoteTable(title=title, columns=columns, rows=rows, total=len(lines)))
    return tables


def _skipped(event: str, line: Mapping[str, Any]) -> Iterator[str]:
    """Why a step was skipped, and the samples of it."""
    if event == "skipped":
        samples = line.get("samples")
        if isinstance(samples, Mapping):
            samples = "; ".join(f"{task}: {', '.join(map(str, names))}" for task, names in samples.items())
        yield f"{line.get('reason', '')} is not finite"
        yield str(samples or "")


def recipe_lines(recipe: str) -> list[RecipeLine]:
    """Split a recipe into lines with their keys."""
    lines = []
    for line in recipe.rstrip().splitlines():
        match = _KEY.match(line)
        before, key, colon, rest = match.groups() if match else ("", "", "", line)
        lines.append(RecipeLine(before=before, key=key, rest=colon + rest, is_comment=line.lstrip().startswith("#")))
    return lines
