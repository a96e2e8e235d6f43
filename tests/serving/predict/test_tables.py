"""Answers as lines and as tables: the score is that of the answer, errors have a column where there are some."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from uniperceiver.serving.predict.tables import as_text, write_table

SCORED = {"file": "a.png", "answer": "dog", "scores": {"dog": 0.25, "cat": 0.5}}
BROKEN = {"file": "b.png", "error": "empty"}
WRITTEN = {"file": "c.png", "answer": "a dog"}


@pytest.mark.parametrize(
    ("answers", "columns"),
    [
        ([SCORED], ["file", "answer", "score", "score:dog", "score:cat"]),
        ([SCORED, BROKEN], ["file", "answer", "score", "error", "score:dog", "score:cat"]),
        ([WRITTEN], ["file", "answer"]),
        ([WRITTEN, BROKEN], ["file", "answer", "error"]),
    ],
)
def test_a_table_has_the_columns_that_its_answers_need(
    answers: list[dict[str, Any]], columns: list[str], tmp_path: Path
) -> None:
    write_table(tmp_path / "t.csv", answers)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        first, *rows = csv.reader(file)
    assert first == columns
    assert [row[0] for row in rows] == [answer["file"] for answer in answers]
    row = dict(zip(first, rows[0], strict=True))
    if "score" in columns:
        assert (row["score"], row["score:dog"], row["score:cat"]) == ("0.25", "0.25", "0.5")
    if "error" in columns:
        assert (row["error"], dict(zip(first, rows[1], strict=True))["error"]) == ("", "empty")


def test_lines_name_the_first_five_candidates() -> None:
    scores = {f"c{number}": 0.5 - number / 20 for number in range(7)}
    lines = as_text([{"file": "a.png", "answer": "c0", "scores": scores}, BROKEN, WRITTEN])
    assert lines[0] == "a.png: c0"
    assert [line.split() for line in lines[1:6]] == [[f"{0.5 - n / 20:.3f}", f"c{n}"] for n in range(5)]
    assert lines[6:] == ["c.png: a dog"]


def thing(label: str, score: float, **more: Any) -> dict[str, Any]:
    return {"label": label, "score": score, "box": [1.25, 2.0, 3.5, 6.0], "bbox": [1.25, 2.0, 2.25, 4.0], **more}


SEEN = {"file": "d.png", "answer": "1 dog, 1 cat", "height": 8, "width": 9}
NOTHING = {"file": "e.png", "answer": "nothing", "height": 8, "width": 9, "detections": []}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_every_thing_is_a_row(suffix: str, tmp_path: Path) -> None:
    outline = {"size": [8, 9], "counts": "12"}
    things = [thing("dog", 0.75, segmentation=outline), thing("cat", 0.5, segmentation=outline)]
    path = tmp_path / f"t.{suffix}"
    write_table(path, [{**SEEN, "detections": things}, BROKEN, NOTHING])
    if suffix == "csv":
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{name: cell or None for name, cell in row.items()} for row in csv.DictReader(file)]
    elif suffix == "jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        rows = pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
    assert list(rows[0]) == ["file", "answer", "score", "x0", "y0", "x1", "y1", "segmentation", "error"]
    assert [(row["file"], row["answer"]) for row in rows] == [
        ("d.png", "dog"),
        ("d.png", "cat"),
        ("b.png", None),
        ("e.png", None),
    ]
    assert [float(rows[1][name]) for name in ("score", "x0", "y0", "x1", "y1")] == [0.5, 1.25, 2.0, 3.5, 6.0]
    assert json.loads(rows[0]["segmentation"]) == outline
    assert [row["error"] for row in rows] == [None, None, "empty", None]
    assert rows[3]["score"] is None


def test_lines_name_the_first_five_things() -> None:
    lines = as_text([{**SEEN, "detections": [thing(f"c{number}", 0.5) for number in range(7)]}, NOTHING])
    assert lines[0] == "d.png: 1 dog, 1 cat"
    assert [line.split() for line in lines[1:6]] == [["0.500", f"c{n}", "1", "2", "4", "6"] for n in range(5)]
    assert lines[6:] == ["e.png: nothing"]
