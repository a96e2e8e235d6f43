"""ANSWERS -> LINES AND TABLES: for people, and as a CSV, Parquet or JSON Lines file."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from uniperceiver.atomic import whole_file
from uniperceiver.errors import UserError
from uniperceiver.strict import to_json

_SHOWN = 5  # candidates per file on the console


def as_text(answers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines for people."""
    lines = []
    for answer in answers:
        if "answer" in answer:
            lines.append(f"{answer['file']}: {answer['answer']}")
        lines += [f"    {score:7.3f}  {name}" for name, score in list(answer.get("scores", {}).items())[:_SHOWN]]
    return lines


def check_table(path: Path, files: Sequence[Path | str]) -> None:
    """Refuse a table that cannot be written, before there is anything to write.

    Args:
        files: what is asked about, none of which may be lost.

    Raises:
        UserError: its kind is none that can be written, pyarrow is missing, or it is a folder or one of the files.
    """
    if path.suffix.lower() not in _WRITERS:
        raise UserError(f"--out {path}: name a file that ends in {', '.join(_WRITERS)}")
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"--out {path}: give a file in a folder that is there")
    if path.resolve() in {file.resolve() for file in files if isinstance(file, Path)}:
        raise UserError(f"--out {path}: is a file that is asked about, and would be lost; give another one")
    if path.suffix.lower() == ".parquet":
        _arrow()


def write_table(path: Path, answers: Sequence[Mapping[str, Any]]) -> None:
    """Write a row for each answer: `file`, `answer`, `score` and a column `score:NAME` for each candidate; `error`
    where some could not be used. The file is there as a whole, or not at all."""
    names = dict.fromkeys(name for answer in answers for name in answer.get("scores", {}))
    is_broken = any("error" in answer for answer in answers)
    columns = ["file", "answer", *(["score"] if names else []), *(["error"] if is_broken else [])]
    rows = []
    for answer in answers:
        scores = answer.get("scores", {})
        row = {column: answer.get(column) for column in columns} | {f"score:{name}": scores.get(name) for name in names}
        rows.append(row | {"score": scores.get(answer.get("answer"))} if names else row)
    with whole_file(path) as file:
        file.write(_WRITERS[path.suffix.lower()](rows, [*columns, *(f"score:{name}" for name in names)]))


def _csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "replace")


def _jsonl(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    return "".join(to_json({name: row[name] for name in columns}) + "\n" for row in rows).encode()


def _parquet(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    arrow, buffer = _arrow(), io.BytesIO()
    types = {name: arrow.float64() if name.startswith("score") else arrow.string() for name in columns}
    from pyarrow import parquet

    parquet.write_table(arrow.Table.from_pylist(list(rows), arrow.schema(list(types.items()))), buffer)
    return buffer.getvalue()


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise UserError(
            "--out: Parquet is written with the package pyarrow; pip install pyarrow, or use .csv"
        ) from None
    return pyarrow


_WRITERS: Mapping[str, Callable[[Sequence[Mapping[str, Any]], Sequence[str]], bytes]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".jsonl": _jsonl,
}
