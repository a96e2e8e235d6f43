"""The command that trains and compares many runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from uniperceiver.cli.options import arg
from uniperceiver.cli.output import print_json
from uniperceiver.cli.process import stopped_when_unheard
from uniperceiver.cli.runs import FiguresTo

if TYPE_CHECKING:
    from uniperceiver.studies.records import StudyReport


def study(
    study: Annotated[Path, arg(metavar="STUDY.yaml")],
    *,
    out: Annotated[Path, arg("folder of the study; goes on if it exists", metavar="DIR")],
    report_only: Annotated[bool, arg("renew the tables, train nothing")] = False,
    json: Annotated[bool, arg("print the tables as JSON")] = False,
    figures: FiguresTo = None,
) -> int | None:
    """Train a recipe in several ways, and compare the runs.

    Exit code 1: some runs have failed.
    """
    from uniperceiver.studies.study import as_json, report_study, run_study
    from uniperceiver.training.stop import EXIT_CODE

    with stopped_when_unheard():
        studied = report_study(study, out) if report_only else run_study(study, out)
        if studied.stopped:
            print(f"stopped; the same command goes on from there ({out})", file=sys.stderr)
            return EXIT_CODE
    if figures is not None:
        from uniperceiver.report.figures import save_figures
        from uniperceiver.studies.page import study_figures

        save_figures(study_figures(studied.report), figures)
    if json:
        print_json({"report_file": str(studied.path), **as_json(studied.report)})
    else:
        _print(studied.report)
        print(f"tables: {out / 'study.json'}\nreport: {studied.path}")
    if studied.failed:
        cells = sum(len(arm.done) + len(arm.failed) for arm in studied.report.arms)
        failed = f"{studied.failed} of {cells} runs failed"
        print(
            f"uniperceiver: {failed}; the same command tries them again ({studied.path} has their last lines)",
            file=sys.stderr,
        )
        return 1
    return None


def _print(report: "StudyReport") -> None:
    """Print a row per arm: the first figure of each task, Δ_MTL, time and runs."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from uniperceiver.report.parts.numbers import count, headline_split
    from uniperceiver.studies.page import first_rows, gap_text, percent, value_text

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
