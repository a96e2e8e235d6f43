"""Answers as lines and as tables: the score is that of the answer, errors have a column where there are some."""

import csv
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
