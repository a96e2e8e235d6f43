"""ANSWERS -> LINES AND TABLES: for people, and as a CSV, Parquet or JSON Lines file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uniperceiver.data import table_files
from uniperceiver.errors import UserError

_COLUMNS: Mapping[str, type] = {"file": str, "answer": str}  # that every table begins with
_SHOWN = 5  # candidates per file on the console


def as_text(answers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines for people."""
    lines = []
    for answer in answers:
        if "answer" in answer:
            lines.append(f"{answer['file']}: {answer['answer']}")
        lines += [f"    {score:7.3f}  {name}" for name, score in list(answer.get("scores", {}).items())[:_SHOWN]]
    return lines


def check_table(path: Path | None, files: Sequence[Path | str]) -> None:
    """Refuse a table that cannot be written, before there is anything to write.

    Args:
        files: what is asked about, none of which may be lost.

    Raises:
        UserError: it cannot be written, or is one of the files.
    """
    if path is not None and path.resolve() in {file.resolve() for file in files if isinstance(file, Path)}:
        raise UserError(f"--out {path}: is a file that is asked about, and would be lost; give another one")
    table_files.check_table(path, "--out", tuple(_COLUMNS))


def write_table(path: Path, answers: Sequence[Mapping[str, Any]]) -> None:
    """Write a row for each answer: `file`, `answer`, `score` and a column `score:NAME` for each candidate; `error`
    where some could not be used. The file is there as a whole, or not at all.

    Raises:
        UserError: the disk does not take it.
    """
    names = dict.fromkeys(name for answer in answers for name in answer.get("scores", {}))
    is_broken = any("error" in answer for answer in answers)
    columns = dict(_COLUMNS)
    columns |= {"score": float} if names else {}
    columns |= {"error": str} if is_broken else {}
    rows = []
    for answer in answers:
        scores = answer.get("scores", {})
        row = {column: answer.get(column) for column in columns} | {f"score:{name}": scores.get(name) for name in names}
        rows.append(row | {"score": scores.get(answer.get("answer"))} if names else row)
    table_files.write_table(path, {**columns, **dict.fromkeys((f"score:{name}" for name in names), float)}, rows)
