"""The section of data: sizes, cut texts, and what was left out, split by split."""

from typing import Any

from tests.report.html import Page
from tests.report.made_up import a_report, some_facts
from uniperceiver.report.run.data import data_rows
from uniperceiver.report.run.page import render_run


def broken(task: str) -> dict[str, Any]:
    return {"event": "broken", "step": 1, "task": task, "sample": "1.jpg", "reason": "cut"}


def test_broken_samples_count_for_the_split_that_they_are_of() -> None:
    """Training names the task, an evaluation TASK/SPLIT; a task may have a slash in its name."""
    log = [broken("birds"), broken("birds"), broken("birds/val"), broken("other"), {"event": "train", "task": "birds"}]
    rows = data_rows(a_report(["birds"], log=log))
    assert [(row.facts.split, row.broken) for row in rows] == [("train", 2), ("val", 1)]


def test_every_split_has_a_row() -> None:
    data = [some_facts(samples=12_345, texts=1_000, cut=2), some_facts("words", "val", classes=None, texts=0, cut=0)]
    words = Page(render_run(a_report(data=data))).words
    assert {"12,345", "2 of 1,000"} <= set(words)
    assert "Data" not in Page(render_run(a_report(data=[]))).words
