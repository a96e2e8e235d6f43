"""ROWS -> FILE: tables that people and programs go on with, as CSV, JSON Lines or Parquet, whole or not at all."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uniperceiver.atomic import whole_file, write_text
from uniperceiver.data.formats.tables.arrow import optional_package
from uniperceiver.errors import UserError
from uniperceiver.strict import to_json

SUFFIXES = (".csv", ".jsonl", ".parquet")
BETWEEN = " | "  # texts of one cell, where a cell holds one text


def check_table(path: Path | None, option: str, begins: Sequence[str] = ()) -> None:
    """Refuse a file that `write_table` cannot write, before there is anything to write; None: there is no file.

    Args:
        begins: the first columns of what is written; a file of that name is replaced only where it has them.

    Raises:
        UserError: another suffix, a folder that is not there, a package that is missing, or a file with something else.
    """
    if path is None:
        return
    if path.suffix not in SUFFIXES:
        raise UserError(f"{option}: {path}: expected a file that ends in {', '.join(SUFFIXES[:2])} or {SUFFIXES[2]}")
    if not path.parent.is_dir():
        raise UserError(f"{option}: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise UserError(f"{option}: {path} is a folder; name a file in it")
    if path.suffix == ".parquet":
        optional_package("pyarrow.parquet", "parquet", option)
    if path.is_file() and path.stat().st_size and _columns_of(path)[: len(begins)] != list(begins):
        raise UserError(f"{option}: {path} holds something else, which would be lost; name another file")


def _columns_of(path: Path) -> list[str]:
    """The columns of a table that is there; none where it is no such table."""
    try:
        if path.suffix == ".parquet":
            from pyarrow.parquet import read_schema

            return list(read_schema(path).names)
        with path.open(newline="", encoding="utf-8") as file:
            if path.suffix == ".csv":
                return next(csv.reader(file), [])
            row = json.loads(file.readline())
            return list(row) if isinstance(row, dict) else []
    except (ValueError, RecursionError, csv.Error):  # pyarrow's errors of a file are ValueErrors, too
        return []


def write_table(path: Path, columns: Mapping[str, type], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows in the format of the path's suffix; a file of that name is replaced.

    Several texts of a cell are a list in JSON Lines, and one text with ` | ` between them in the others.

    Args:
        columns: name -> str, float, int or bool, in their order; a cell may be None, too.

    Raises:
        UserError: the disk does not take it.
    """
    try:
        if path.suffix == ".jsonl":
            write_text(path, "".join(f"{to_json({name: row[name] for name in columns})}\n" for row in rows))
        elif path.suffix == ".csv":
            text = io.StringIO(newline="")
            writer = csv.writer(text)
            writer.writerow(columns)
            writer.writerows([_cell(row[name]) for name in columns] for row in rows)
            write_text(path, text.getvalue())
        else:
            _write_parquet(path, columns, rows)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); free the disk, or name another file") from error


def _cell(value: Any) -> Any:
    """A value as CSV has it."""
    if isinstance(value, bool):
        return json.dumps(value)
    return BETWEEN.join(value) if isinstance(value, list | tuple) else value


def _write_parquet(path: Path, columns: Mapping[str, type], rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow
    from pyarrow.parquet import write_table as write

    kinds = {str: pyarrow.string(), float: pyarrow.float64(), int: pyarrow.int64(), bool: pyarrow.bool_()}
    arrays = [
        pyarrow.array(
            [BETWEEN.join(value) if isinstance(value := row[name], list | tuple) else value for row in rows],
            kinds[kind],
        )
        for name, kind in columns.items()
    ]
    with whole_file(path) as file:
        write(pyarrow.table(arrays, names=list(columns)), file)
