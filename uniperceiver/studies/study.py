"""STUDY.yaml -> TABLES: cells that are still to be trained are, and what came of all is shown."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from uniperceiver.atomic import only_one
from uniperceiver.errors import UserError
from uniperceiver.report.numbers import count, headline_split
from uniperceiver.strict import to_json
from uniperceiver.studies.cells import CellOutcome, finished, reported
from uniperceiver.studies.page import render_study
from uniperceiver.studies.page_charts import value_text
from uniperceiver.studies.page_tables import first_rows, gap_text, percent
from uniperceiver.studies.plan import StudyPlan, read_plan
from uniperceiver.studies.records import StudyReport
from uniperceiver.studies.run import run_cells
from uniperceiver.studies.tables import tables_of
from uniperceiver.training.stop import stop_on_signals


@dataclass(frozen=True, kw_only=True)
class Studied:
    """What has come of a study, and what has not."""

    report: StudyReport
    path: Path  # of its report.html
    failed: int  # cells
    stopped: bool  # by a signal


def run_study(path: Path, out: Path, *, quiet: bool = False) -> Studied:
    """Train the cells of a study that are not done, and write its tables after each.

    Args:
        quiet: no progress bar.

    Raises:
        UserError: a key of the study or of a recipe is wrong, before anything is trained; the folder holds another
            study, or another process works on it.
    """
    plan = read_plan(path, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); use another --out") from None
    with only_one(out) as alone:
        if not alone:
            raise UserError(f"{out}: another process works on this study; wait for it, or stop it first")
        done = {cell.folder: finished(cell) for cell in plan.cells}
        outcomes = [each for each in done.values() if each is not None]

        def on_end(outcome: CellOutcome) -> None:
            outcomes.append(outcome)
            _write(tables_of(plan, outcomes), out)

        todo = [cell for cell in plan.cells if done[cell.folder] is None]
        with stop_on_signals() as stop:
            whole = run_cells(plan, todo, stop, on_end, quiet=quiet)
        return _studied(plan, outcomes, out, stopped=not whole)


def report_study(path: Path, out: Path) -> Studied:
    """Write the tables of a study anew from what its cells came to; nothing is trained.

    Raises:
        UserError: the study is wrong, or has no cell there, or one of another recipe.
    """
    plan = read_plan(path, out, open_data=False)
    outcomes = [each for each in map(reported, plan.cells) if each is not None]
    if not outcomes:
        raise UserError(f"{out}: holds no cell of this study; give the folder of its --out, or leave --report-only out")
    return _studied(plan, outcomes, out, stopped=False)


def _studied(plan: StudyPlan, outcomes: Sequence[CellOutcome], out: Path, *, stopped: bool) -> Studied:
    report = tables_of(plan, outcomes)
    path = _write(report, out)
    return Studied(report=report, path=path, failed=len(report.failures), stopped=stopped)


def _write(report: StudyReport, out: Path) -> Path:
    """study.json and report.html, each whole or as it was."""
    texts = {"study.json": to_json(as_json(report), indent=1) + "\n", "report.html": render_study(report)}
    for name, text in texts.items():
        temporary = out / f"{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(out / name)
    return out / "report.html"


def as_json(report: StudyReport) -> dict[str, object]:
    """All tables; the curves are in the runs' logs."""
    return dataclasses.asdict(dataclasses.replace(report, curves=None))


def print_study(studied: Studied) -> None:
    """A row per arm: the first figure of each task, Δ_MTL, time and runs."""
    report = studied.report
    rows = first_rows(report)
    split = headline_split(dict.fromkeys(row.split for row in rows)) or ""
    deltas = any(arm.delta for arm in report.arms)
    heads = [f"{row.task}\n{row.metric}{' ↓' * row.lower}\n{row.split}" for row in rows]
    heads += [f"Δ_MTL\n{split}"] if deltas else []
    table = Table("arm", *heads, "time\nper step", "runs", box=SIMPLE, pad_edge=False)
    for arm in report.arms:
        cells = []
        for row in rows:
            shown = row.arms.get(arm.name)
            figure = "–" if shown is None else value_text(shown, row.metric)
            cells.append("\n".join(filter(None, [figure, gap_text(row, arm.name, report)])))
        if deltas:
            cells.append(percent(arm.delta[split]) if arm.delta and split in arm.delta else "–")
        ratio = f"{arm.time_ratio.value:.2f} x" if arm.time_ratio is not None else "–"
        failed = f", {len(arm.failed)} failed" if arm.failed else ""
        table.add_row(arm.name, *cells, ratio, count(len(arm.done)) + failed, end_section=True)
    table.caption = "means over seeds ± standard error; ↓: lower is better"
    Console(width=max(Console().width, 40 + 20 * len(rows))).print(table)
