"""STUDY.yaml -> TABLES: cells that are still to be trained are, and what came of all is shown."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from uniperceiver.atomic import foreign_names, only_one, was_locked, write_text
from uniperceiver.errors import UserError, warn
from uniperceiver.runs.folder import is_run_recipe, refuse_unwritable
from uniperceiver.strict import to_json
from uniperceiver.studies.cells import CellOutcome, finished, other_data, reported
from uniperceiver.studies.page import render_study
from uniperceiver.studies.plan import StudyPlan, read_plan
from uniperceiver.studies.records import StudyReport
from uniperceiver.studies.run import run_cells
from uniperceiver.studies.tables import tables_of
from uniperceiver.training.stop import stop_on_signals

_LINES = 10  # about cells with other data


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """What has come of a study, and what has not."""

    report: StudyReport
    path: Path  # of its report.html
    failed: int  # cells
    stopped: bool  # by a signal


def run_study(path: Path, out: Path, *, quiet: bool = False) -> StudyResult:
    """Train the cells of a study that are not done, and write its tables after each.

    Args:
        quiet: no progress bar.

    Raises:
        UserError: a key of the study or of a recipe is wrong, before anything is trained; the folder holds another
            study, or another process works on it.
    """
    _refuse_foreign(out)
    plan = read_plan(path, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); use another --out") from None
    with only_one(out) as alone:
        if not alone:
            raise UserError(f"{out}: another process works on this study; wait for it, or stop it first")
        done = {cell.folder: finished(cell) for cell in plan.cells}
        outcomes = [outcome for outcome in done.values() if outcome is not None]

        def on_end(outcome: CellOutcome) -> None:
            outcomes.append(outcome)
            _write(tables_of(plan, outcomes), out)

        todo = [cell for cell in plan.cells if done[cell.folder] is None]
        with stop_on_signals() as stop:
            whole = run_cells(plan, todo, stop, on_end, quiet=quiet)
            return _result(plan, outcomes, out, stopped=not whole)


def _refuse_foreign(out: Path) -> None:
    """Refuse a folder that holds anything, unless it is that of a study, whose tables may be renewed."""
    refuse_unwritable(out)
    others, cells = foreign_names(out), out / "cells"
    begun = (out / "study.json").is_file() or was_locked(out)
    by_hand = any(map(is_run_recipe, cells.glob("*/*/recipe.yaml")))  # a cell that was trained before the study
    if others and not (cells.is_dir() and (begun or by_hand)):
        raise UserError(
            f"{out}: holds other files, such as {others[0]}, and is no study; use another --out, a folder that is new, "
            "empty or of a study"
        )


def report_study(path: Path, out: Path) -> StudyResult:
    """Write the tables of a study anew from what its cells came to; nothing is trained.

    Raises:
        UserError: the study is wrong, or has no cell there, or one of another recipe.
    """
    plan = read_plan(path, out, open_data=False)
    outcomes = [outcome for outcome in map(reported, plan.cells) if outcome is not None]
    if not outcomes:
        raise UserError(f"{out}: holds no cell of this study; give the folder of its --out, or leave --report-only out")
    return _result(plan, outcomes, out, stopped=False)


def _result(plan: StudyPlan, outcomes: Sequence[CellOutcome], out: Path, *, stopped: bool) -> StudyResult:
    for line in other_data(outcomes)[:_LINES]:
        warn(line)
    report = tables_of(plan, outcomes)
    path = _write(report, out)
    return StudyResult(report=report, path=path, failed=len(report.failures), stopped=stopped)


def _write(report: StudyReport, out: Path) -> Path:
    """study.json and report.html, each whole or as it was."""
    texts = {"study.json": to_json(as_json(report), indent=1) + "\n", "report.html": render_study(report)}
    for name, text in texts.items():
        write_text(out / name, text)
    return out / "report.html"


def as_json(report: StudyReport) -> dict[str, object]:
    """All tables, and the curves that the page draws: title -> task -> arm -> "step", "mean", "low" and "high"."""
    curves = {
        title: {
            task: {
                arm: {name.removesuffix("_P"): value_P.tolist() for name, value_P in vars(curve).items()}
                for arm, curve in by_arm.items()
            }
            for task, by_arm in tasks.items()
        }
        for title, tasks in (report.curves or {}).items()
    }
    return dataclasses.asdict(dataclasses.replace(report, curves=None)) | {"curves": curves}
