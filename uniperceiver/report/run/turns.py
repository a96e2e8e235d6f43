"""The section of turns: how often each task was trained in which shape, beside what was planned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from uniperceiver.report.parts.numbers import count, finite
from uniperceiver.report.run.records import RunReport


@dataclass(frozen=True, kw_only=True)
class TurnRow:
    """Holds a task in one of its shapes, as it is written."""

    task: str
    shape: str
    batch: str
    tokens: str  # of a sample
    steps: str  # real share, beside the planned one
    share: str  # of tokens, alike
    ms: str


def turn_rows(report: RunReport) -> list[TurnRow]:
    """The last line of the log about turns; nothing of a run whose only task has one shape."""
    lines = [line.get("signatures") for line in report.log if line.get("event") == "signatures"]
    rows: Sequence[dict[str, Any]] = lines[-1] if lines and isinstance(lines[-1], list) else ()
    if len(rows) < 2:
        return []

    def share(row: dict[str, Any], name: str) -> str:
        real, planned = finite(row.get(name)), finite(row.get(f"planned_{name}"))
        return f"{real or 0:.1%} of {planned or 0:.1%}"

    return [
        TurnRow(
            task=str(row.get("task", "")),
            shape=str(row.get("shape", "")),
            batch=count(finite(row.get("batch"))),
            tokens=count(finite(row.get("sample_tokens"))),
            steps=share(row, "steps"),
            share=share(row, "tokens"),
            ms="–" if (ms := finite(row.get("ms"))) is None else f"{ms:,.1f}",
        )
        for row in rows
    ]
