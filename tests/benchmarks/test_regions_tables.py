"""The tables of docs/regions-study.md: they are those of the raw figures; what is bold, and what steadiness is."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.regions_tables import (
    collected,
    deltas,
    metrics,
    roughness,
    roughness_of,
    steadiness,
    steadiness_table,
    tables,
)
from tests.markdown import ROOT, read

TABLES = tables(ROOT / "docs/results/regions.json")


@pytest.mark.parametrize("name", TABLES)
def test_the_page_has_the_table_of_the_raw_figures(name: str) -> None:
    assert f"\n\n{TABLES[name]}\n\n" in read("docs/regions-study.md")


def a_study() -> dict[str, Any]:
    """Two arms; the second has no things, and a loss of largest that is clearly lower."""
    figure = {"mean": 0.5, "error": 0.125}
    surely, perhaps = ({"value": -1.0, "error": error, "paired": True, "freedom": 2.0} for error in (0.2, 0.3))
    shown = [("things", ("ap", "mask_ap"), ("all",), {}), ("largest", ("loss", "accuracy@1"), ("all", "b"), surely)]
    shown += [(task, ("loss", last), ("all", "b"), perhaps) for task, last in
              (("captions", "cider_d"), ("retrieval", "i2t_recall@1"))]  # fmt: skip
    rows = [
        {
            "task": task,
            "split": "val",
            "metric": metric,
            "arms": dict.fromkeys(arms, figure),
            "differences": {"b": difference} if difference else {},
        }
        for task, names, arms, difference in shown
        for metric in names
    ]
    delta = {"val": {"value": -0.125, "error": 0.0625}}
    arms = [{"name": "all", "delta": None}, {"name": "b", "delta": delta, "parameters": 1_250_000}]
    return {"rows": rows, "arms": arms}


def test_what_differs_is_bold_and_what_is_not_there_is_a_dash() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in metrics(a_study()).splitlines()[2:]]
    plain = "0.500 ± 0.125"
    assert rows[0] == ["`all`", *[plain] * 8]
    assert rows[1] == ["`b`", "–", "–", f"**{plain}**", f"**{plain}**", plain, plain, plain, plain]


def test_the_gain_over_single_tasks_is_a_share() -> None:
    assert deltas(a_study()).splitlines()[2:] == ["| `b` | -0.125 ± 0.062 | 1.25 M |"]


def test_one_seed_has_no_error_and_differs_from_nothing() -> None:
    study = a_study()
    for row in study["rows"]:
        row["arms"] = {arm: {"mean": 0.5, "error": None} for arm in row["arms"]}
        row["differences"] = {arm: {**parts, "error": None} for arm, parts in row["differences"].items()}
    assert metrics(study).splitlines()[3].split("|")[5].strip() == "0.500 (one)"


def test_a_steady_decline_is_not_rough() -> None:
    assert roughness([8.0, 4.0, 2.0, 1.0]) == pytest.approx(0.0)
    bend = math.log(2)  # of every loss between two that are half or twice as large
    assert roughness([1.0, 2.0, 1.0, 2.0]) == pytest.approx(bend)


def test_only_what_comes_after_the_warm_up_counts(tmp_path: Path) -> None:
    lines = [{"event": "train", "step": 10, "a/loss": 100.0}, {"event": "note", "step": 30, "a/loss": 9.0}]
    lines += [{"event": "train", "step": 20 + 10 * n, "a/loss": 2.0 ** (n % 2), "b/loss": 1.0} for n in range(1, 5)]
    assert roughness_of(lines) == pytest.approx(math.log(2) / 2)
    for arm, seeds in (("a", (0, 1)), ("b", (0,))):
        for seed in seeds:
            folder = tmp_path / "cells" / arm / f"seed-{seed}"
            folder.mkdir(parents=True)
            (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            (folder / "results.json").touch()
    begun = tmp_path / "cells" / "b" / "seed-1"
    begun.mkdir()
    (begun / "log.jsonl").write_text("")
    assert steadiness(tmp_path) == {"a": pytest.approx([math.log(2) / 2] * 2), "b": pytest.approx([math.log(2) / 2])}


def test_what_the_page_does_not_show_is_left_out(tmp_path: Path) -> None:
    study = a_study()
    rows = [*study["rows"], {**study["rows"][0], "split": "train"}, {**study["rows"][0], "metric": "ap50"}]
    (tmp_path / "study.json").write_text(json.dumps({**study, "rows": rows, "curves": {}}))
    assert collected(tmp_path) == {"arms": study["arms"], "rows": study["rows"], "steadiness": {}}


def test_the_steadiest_arm_is_first() -> None:
    assert steadiness_table({"a": [0.5, 0.25], "b": [0.125, 0.125]}).splitlines()[2:] == [
        "| `b` | 0.125 ± 0.000 |",
        "| `a` | 0.375 ± 0.125 |",
    ]
    assert steadiness_table({"a": [0.5]}).splitlines()[2:] == ["| `a` | 0.500 (one) |"]
