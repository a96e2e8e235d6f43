"""ANSWERS -> LINES AND TABLES: for people, and as a CSV, Parquet or JSON Lines file; vectors also as a NumPy array."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uniperceiver.atomic import whole_file
from uniperceiver.data import table_files
from uniperceiver.errors import UserError

_COLUMNS: Mapping[str, type] = {"file": str, "answer": str}  # that every table begins with
_CORNERS = ("x0", "y0", "x1", "y1")  # of a thing's box
_SHOWN = 5  # candidates, things or numbers, per file on the console
_ARRAY = ".npy"  # of vectors alone


def as_text(answers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines for people."""
    lines = []
    for answer in answers:
        if "answer" in answer:
            lines.append(f"{answer['file']}: {answer['answer']}")
        if vector := answer.get("vector"):
            begins = " ".join(f"{value:.3f}" for value in vector[:_SHOWN])
            lines.append(f"{answer['file']}: {len(vector)} numbers: {begins} ...")
        lines += [f"    {score:7.3f}  {name}" for name, score in list(answer.get("scores", {}).items())[:_SHOWN]]
        for thing in answer.get("detections", ())[:_SHOWN]:
            corners = " ".join(f"{side:.0f}" for side in thing["box"])
            lines.append(f"    {thing['score']:7.3f}  {thing['label']}  {corners}")
    return lines


def check_table(path: Path | None, files: Sequence[Path | str], *, vectors: bool = False) -> None:
    """Refuse a table that cannot be written, before there is anything to write.

    Args:
        files: what is asked about, none of which may be lost.
        vectors: the answers are vectors, which may also be written as an array.

    Raises:
        UserError: it cannot be written, or is one of the files.
    """
    if path is not None and path.resolve() in {file.resolve() for file in files if isinstance(file, Path)}:
        raise UserError(f"--out {path}: is a file that is asked about, and would be lost; give another one")
    if path is not None and vectors and path.suffix == _ARRAY:
        if path.exists() or not path.parent.is_dir():
            raise UserError(f"--out {path}: is there already, or its folder is not; name a new file")
        return
    table_files.check_table(path, "--out", ("file", "v0") if vectors else tuple(_COLUMNS))


def write_table(path: Path, answers: Sequence[Mapping[str, Any]]) -> None:
    """Write a row for each answer: `file`, `answer`, `score` and a column `score:NAME` for each candidate; `error`
    where some could not be used. The file is there as a whole, or not at all.

    Of things in pictures each has a row: its label as `answer`, `score`, its corners `x0` to `y1` in pixels and, with
    masks, `segmentation`: COCO's run lengths as JSON. A picture of nothing has a row with its name alone.

    Vectors have a column for each number, `v0` and so on; as an array they are (files, width) float32, and NaN where a
    file could not be used.

    Raises:
        UserError: the disk does not take it.
    """
    if any("vector" in answer for answer in answers):
        _write_vectors(path, answers)
        return
    if any("detections" in answer for answer in answers):
        table_files.write_table(path, *_things(answers))
        return
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


def _write_vectors(path: Path, answers: Sequence[Mapping[str, Any]]) -> None:
    width = max(len(answer.get("vector", ())) for answer in answers)
    nothing = [None] * width
    if path.suffix != _ARRAY:
        columns: dict[str, type] = {"file": str, **{f"v{place}": float for place in range(width)}}
        columns |= {"error": str} if any("error" in answer for answer in answers) else {}
        rows = [
            {"file": answer["file"], "error": answer.get("error")}
            | {f"v{place}": value for place, value in enumerate(answer.get("vector", nothing))}
            for answer in answers
        ]
        table_files.write_table(path, columns, rows)
        return
    vectors = [answer.get("vector", [float("nan")] * width) for answer in answers]
    try:
        with whole_file(path) as file:
            np.save(file, np.array(vectors, dtype=np.float32))
    except OSError as error:
        raise UserError(f"--out {path}: could not be written ({error}); free space, or name another file") from None


def _things(answers: Sequence[Mapping[str, Any]]) -> tuple[dict[str, type], list[dict[str, Any]]]:
    """The columns of a table of things, and a row for each."""
    things = [thing for answer in answers for thing in answer.get("detections", ())]
    columns = {**_COLUMNS, **dict.fromkeys(("score", *_CORNERS), float)}
    columns |= {"segmentation": str} if any("segmentation" in thing for thing in things) else {}
    columns |= {"error": str} if any("error" in answer for answer in answers) else {}
    nothing = dict.fromkeys(columns)
    rows: list[dict[str, Any]] = []
    for answer in answers:
        row = {**nothing, "file": answer["file"], **({"error": answer["error"]} if "error" in answer else {})}
        for thing in answer.get("detections", ()):
            cells = {
                "answer": thing["label"],
                "score": thing["score"],
                **dict(zip(_CORNERS, thing["box"], strict=True)),
            }
            if "segmentation" in thing:
                cells["segmentation"] = json.dumps(thing["segmentation"])
            rows.append(row | cells)
        rows += [] if answer.get("detections") else [row]
    return columns, rows
