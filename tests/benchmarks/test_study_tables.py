"""The tables of docs/interference.md: they are those of the raw figures; how gaps and entries are written."""

from typing import Any

import pytest

from benchmarks.study_tables import losses, matrices, tables
from tests.markdown import ROOT, read

TABLES = tables(ROOT / "docs" / "results")


@pytest.mark.parametrize("name", TABLES)
def test_the_page_has_the_table_of_the_raw_figures(name: str) -> None:
    assert f"\n\n{TABLES[name]}\n\n" in read("docs/interference.md")


def row(task: str, gap: float, is_gap: bool, split: str = "val") -> dict[str, Any]:
    arms = {name: {"mean": 1.0, "error": 0.125} for name in ("shared", "apart", "token")}
    closed = {"token": {"value": 0.5, "error": 0.25}} if is_gap else None
    gaps = {"gap": {"value": gap}, "is_gap": is_gap, "closed": closed}
    return {"task": task, "split": split, "metric": "loss", "arms": arms, **gaps}


def test_a_gap_is_shown_where_it_is_one_and_which_side_is_better() -> None:
    rows = [row("a", -1, True), row("b", 1, True), row("c", -1, False)]
    arms = [{"name": name, "done": [0, 1, 2]} for name in ("shared", "apart", "token")]
    study = {"rows": [*rows, row("a", -1, True, "train")], "arms": arms, "baseline": "shared", "reference": "apart"}
    rows = [[cell.strip() for cell in line.split("|")] for line in losses(study).splitlines()[2:]]
    assert [line[4] for line in rows] == ["0", "1", "0.50 ± 0.25"]
    assert [line[6] for line in rows] == ["0", "1, but worse", "0.50 ± 0.25"]
    assert {line[8] for line in rows} == {"no gap"}
    assert rows[0][3] == "1.000 ± 0.125"


def test_without_a_reference_there_is_no_gap_to_close() -> None:
    rows = [row("a", 0, False), row("a", 0, False, "train")]
    study = {"rows": rows, "arms": [{"name": "token", "done": [0]}], "baseline": None, "reference": None}
    assert losses(study).splitlines()[2] == "| `token` | 1 | 1.000 ± 0.125 | 1.000 |"


def measured(step: int, value: float | None, low: float | None, high: float | None) -> dict[str, Any]:
    """Two layers: 0.5 in the first, the given entry in the second."""
    first = {"layer": 0, "matrix": [[1, 0.5], [0.5, 1]], "low": [[1, 0.4], [0.4, 1]], "high": [[1, 0.6], [0.6, 1]]}
    last = {"layer": 1, "matrix": [[1, value], [0, 1]], "low": [[1, low], [0, 1]], "high": [[1, high], [0, 1]]}
    return {"step": step, "tasks": ["a", "b"], "layers": [first, last]}


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        ([(0.25, 0.1, 0.4), (0.75, 0.5, 1.0)], "**0.50** (0.25, 0.75)"),
        ([(-0.25, -0.4, -0.1), (-0.75, -1, -0.5)], "**-0.50** (-0.75, -0.25)"),
        ([(0.25, -0.1, 0.4), (0.75, 0.5, 1.0)], "0.50 (0.25, 0.75)"),
        ([(0.25, 0.1, 0.4), (-0.75, -1, -0.5)], "-0.25 (-0.75, 0.25)"),
        ([(0.25, None, None), (0.75, 0.5, 1.0)], "0.50 (0.25, 0.75) (?)"),
        ([(None, None, None), (0.75, 0.5, 1.0)], "0.75 (?)"),
        ([(None, None, None), (None, None, None)], "null"),
        ([(1e-9, 1e-10, 1e-8), (1e-9, 1e-10, 1e-8)], "0.00"),
        ([(1e-9, 1e-10, 1e-8), (0.5, 0.25, 0.75)], "0.25 (0.00, 0.50)"),
        ([(-0.5, -0.75, -0.25), (0.5, 0.25, 0.75)], "0.00 (-0.50, 0.50)"),
        ([(-1e-9, None, None), (-1e-9, None, None)], "0.00 (?)"),
    ],
)
def test_an_entry_over_seeds(seeds: list[tuple[float | None, float | None, float | None]], expected: str) -> None:
    lines = matrices({f"shared-{seed}-10": measured(10, *entry) for seed, entry in enumerate(seeds)}).splitlines()
    assert lines[0] == "| weights | step | seeds | a ← b | b ← a |"
    assert lines[2] == "| `shared`, layer 0 | 10 | 2 | **0.50** | **0.50** |"
    assert lines[3] == f"| `shared`, layer 1 | 10 | 2 | {expected} | 0.00 |"
