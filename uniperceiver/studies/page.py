"""report.html of a study: its arms compared, as tables and figures in one file that needs nothing else."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uniperceiver.report.figures.curves import band_curves
from uniperceiver.report.figures.dots import seed_dots
from uniperceiver.report.figures.svg import inline
from uniperceiver.report.parts.colours import TONES, tone_of
from uniperceiver.report.parts.numbers import THIN_SPACE, count, finite, headline_split, with_error
from uniperceiver.report.parts.page import render_page
from uniperceiver.studies.records import MetricRow, SeedEstimate, SeedSpread, StudyArm, StudyReport
from uniperceiver.studies.statistics import FALSE_ALARMS, gap_limit, is_gap

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class TextCell:
    """Holds what stands in a square of a table: a value, and something smaller below it; None: a dash."""

    text: str | None
    below: str = ""
    is_bad: bool = False  # what stands below


@dataclass(frozen=True, kw_only=True)
class TextRow:
    """Holds a line of a table."""

    head: TextCell
    cells: Sequence[TextCell]
    tone: int | None = None  # place of the arm's colour in the palette
    is_first: bool = False  # the metric that a task is judged by first


@dataclass(frozen=True, kw_only=True)
class StudyPanel:
    """Holds a figure of a task under its name."""

    name: str
    what: str
    figure: "Markup"


def render_study(report: StudyReport) -> str:
    """Fill in the page of a study, to be written as UTF-8."""
    rows = first_rows(report)
    names = [arm.name for arm in report.arms]
    sections: dict[str, Any] = {
        "Arms": _arms(report, rows) if rows else [],
        "Seeds": _seed_panels(rows, names),
        "Curves": _curve_panels(report, names),
        "Figures": _all_rows(report, names),
        "Failures": report.failures,
        "Study": report.study,
    }
    gap = any(row.gap for row in report.rows)
    values = {
        "title": report.title,
        "kicker": "study",
        "verdict": verdict(report),
        "facts": report.facts,
        "links": [name for name, section in sections.items() if section],
        "explained": _explained(report, rows),
        "arm_heads": _arm_heads(report, rows),
        "figure_heads": ["metric", *([f"{report.reference} − {report.baseline}"] if gap else []), *names],
        "legend": [(tone_of(names, name), place >= TONES, name) for place, name in enumerate(names)],
        **{name.lower(): section for name, section in sections.items()},
    }
    return render_page("study.html.j2", values, package="uniperceiver.studies")


def study_figures(report: StudyReport) -> "dict[str, Figure]":
    """Draw the figures of a study's page to stand alone: all tasks' seeds, and all learning curves of a kind."""
    rows = first_rows(report)
    names = [arm.name for arm in report.arms]
    figures = {}
    if rows:
        spreads = {row.task: row.arms for row in rows}
        figures["seeds"] = seed_dots(spreads, [row.metric for row in rows], names)
    for title, tasks in (report.curves or {}).items():
        figures[title.lower().replace(" ", "_")] = band_curves(tasks, names)
    return figures


def first_rows(report: StudyReport) -> list[MetricRow]:
    """Choose of each task the metric that it is judged by first, on held-out data where there are such."""
    first: list[MetricRow] = []
    for task in dict.fromkeys(row.task for row in report.rows):
        rows = {row.split: row for row in report.rows if row.task == task and row.first}
        split = headline_split(rows)
        first += [rows[split]] if split is not None else []
    return first


def percent(share: SeedEstimate) -> str:
    """Write a share with its standard error: 42.0 % ± 5.1."""
    if not math.isfinite(share.value):
        return "–"
    error = finite(share.error)
    return f"{100 * share.value:.1f}{THIN_SPACE}%" + ("" if error is None else f" ± {100 * error:.1f}")


def value_text(spread: SeedSpread, metric: str) -> str:
    """Write mean and standard error."""
    return with_error(spread.mean, spread.error, metric)


def gap_text(row: MetricRow, arm: str, report: StudyReport) -> str:
    """Say how much of the gap an arm closes, or that there is none; "" where nothing is compared.

    Without a reference there is no gap: it says whether the arm is better or worse than the baseline.
    """
    if arm not in row.arms:
        return ""
    if row.gap is None:
        return _difference_text(row, arm, report)
    if arm in (report.baseline, report.reference):
        return "baseline" if arm == report.baseline else "reference"
    return "no gap" if row.closed is None else f"gap closed {percent(row.closed[arm])}"


def _difference_text(row: MetricRow, arm: str, report: StudyReport) -> str:
    if row.differences is None:
        return ""
    if arm == report.baseline:
        return "baseline"
    difference = row.differences[arm]
    if not is_gap(difference):
        return "no difference"
    return "clearly better" if _is_better(row, difference) else "clearly worse"


def _is_better(row: MetricRow, difference: SeedEstimate) -> bool:
    return (difference.value < 0) == row.lower


def verdict(report: StudyReport) -> str:
    """Say what came out, in a sentence."""
    rows = [row for row in first_rows(report) if row.gap is not None]
    if not report.rows:
        return "No run has ended yet."
    if not rows:
        return _verdict_of_arms(report)
    gaps = [row for row in rows if row.is_gap]
    if not gaps:
        return f"No gap: {report.reference} and {report.baseline} differ on no task by more than chance may do."
    better = [row.task for row in gaps if row.gap is not None and _is_better(row, row.gap)]
    worse = [row.task for row in gaps if row.task not in better]
    parts = [f"{report.reference} is clearly better than {report.baseline} on {', '.join(better)}"] if better else []
    parts += [f"{report.reference} is clearly worse than {report.baseline} on {', '.join(worse)}"] if worse else []
    rest = len(rows) - len(gaps)
    return "; ".join(parts) + (f"; no gap on the other {rest}." if rest else ".")


def _verdict_of_arms(report: StudyReport) -> str:
    """Say which arms differ from the baseline; without one, only how many there are."""
    rows = first_rows(report)
    if not any(row.differences for row in rows):
        return f"{len(report.arms)} arms, compared on {len(rows)} tasks."
    parts = []
    for arm in report.arms:
        words = {row.task: gap_text(row, arm.name, report) for row in rows}
        for how in ("clearly better", "clearly worse"):
            tasks = [task for task, text in words.items() if text == how]
            parts += [f"{arm.name} is {how} than {report.baseline} on {', '.join(tasks)}"] if tasks else []
    return "; ".join(parts or [f"No arm differs from {report.baseline} on any task by more than chance may do"]) + "."


def _explained(report: StudyReport, rows: Sequence[MetricRow]) -> str:
    text = "Means over the seeds, ± one standard error; ↓ means that lower is better."
    differences = [difference for row in rows if not row.gap for difference in (row.differences or {}).values()]
    if differences:
        text += (
            f" Clearly better or worse than {report.baseline}: by more than {_limits(differences)} standard errors of "
            f"the difference, which {100 * FALSE_ALARMS:.0f}{THIN_SPACE}% of arms that do not differ are by chance."
        )
    gaps = [row.gap for row in rows if row.gap is not None]
    if gaps:
        pairing = "paired by number" if all(gap.paired for gap in gaps) else "not paired, as some are missing"
        text += (
            f" Gap closed = (arm − {report.baseline}) / ({report.reference} − {report.baseline}), only where these two "
            f"differ by more than {_limits(gaps)} standard errors of their difference (seeds {pairing}; Student's t: "
            f"{100 * FALSE_ALARMS:.0f}{THIN_SPACE}% of comparisons without any difference are called a gap, so look at "
            "the metric that was named beforehand); its standard error is the jackknife's."
        )
    if any(arm.delta for arm in report.arms):
        text += " Δ_MTL is the mean relative gain over the single-task runs; above 0 is better than they are."
    if any(arm.time_ratio for arm in report.arms):
        text += f" Time per step is that of training, as a multiple of {report.baseline}'s."
    return text


def _limits(differences: Sequence[SeedEstimate]) -> str:
    """How many standard errors make a difference: 4.30, or 2.45 to 4.30."""
    limits = sorted(limit for limit in (gap_limit(part.freedom) for part in differences) if math.isfinite(limit))
    return " to ".join(dict.fromkeys(f"{limit:.2f}" for limit in (*limits[:1], *limits[-1:]))) or "so many"


def _delta_split(report: StudyReport, rows: Sequence[MetricRow]) -> str | None:
    """The split of the column of Δ_MTL; None: no arm has one."""
    if not any(arm.delta for arm in report.arms):
        return None
    return headline_split(dict.fromkeys(row.split for row in rows)) or ""


def _arm_heads(report: StudyReport, rows: Sequence[MetricRow]) -> list[TextCell]:
    split = _delta_split(report, rows)
    return [
        *(TextCell(text=row.task, below=f"{row.metric}{' ↓' * row.lower} · {row.split}") for row in rows),
        *([] if split is None else [TextCell(text="Δ_MTL", below=split)]),
        TextCell(text="time", below="per step"),
        TextCell(text="parameters"),
        TextCell(text="runs"),
    ]


def _arms(report: StudyReport, rows: Sequence[MetricRow]) -> list[TextRow]:
    """A line per arm: its first metric of every task, Δ_MTL and what it cost."""
    names = [arm.name for arm in report.arms]
    split = _delta_split(report, rows)
    lines = []
    for arm in report.arms:
        keys = ", ".join(f"{key}={value}" for key, value in arm.keys.items())
        delta = None if split is None else (arm.delta or {}).get(split)
        cells = [
            *(_value(row, arm.name, report) for row in rows),
            *([] if split is None else [TextCell(text=None if delta is None else percent(delta))]),
            _time(arm),
            TextCell(text=None if arm.parameters is None else f"{arm.parameters / 1e6:.3g} M"),
            TextCell(text=count(len(arm.done)), below=f"{len(arm.failed)} failed" if arm.failed else "", is_bad=True),
        ]
        lines.append(TextRow(head=TextCell(text=arm.name, below=keys), cells=cells, tone=tone_of(names, arm.name)))
    return lines


def _value(row: MetricRow, arm: str, report: StudyReport) -> TextCell:
    if arm not in row.arms:
        return TextCell(text=None)
    return TextCell(text=value_text(row.arms[arm], row.metric), below=gap_text(row, arm, report))


def _time(arm: StudyArm) -> TextCell:
    if arm.step_seconds is None:
        return TextCell(text=None)
    shown, ratio = f"{1000 * arm.step_seconds.mean:.3g} ms", arm.time_ratio
    if ratio is None or not math.isfinite(ratio.value):
        return TextCell(text=shown)
    error = f" ± {ratio.error:.2f}" if math.isfinite(ratio.error) else ""
    return TextCell(text=f"{ratio.value:.2f}{error}", below=shown)


def _all_rows(report: StudyReport, names: Sequence[str]) -> dict[str, list[TextRow]]:
    """All metrics of all tasks and splits in all arms, by task."""
    with_gap = any(row.gap for row in report.rows)
    by_task: dict[str, list[TextRow]] = {}
    for row in report.rows:
        cells = [_gap(row)] if with_gap else []
        cells += [_value(row, name, report) for name in names]
        head = TextCell(text=f"{row.metric}{' ↓' * row.lower}", below=row.split)
        by_task.setdefault(row.task, []).append(TextRow(head=head, cells=cells, is_first=row.first))
    return by_task


def _gap(row: MetricRow) -> TextCell:
    if row.gap is None:
        return TextCell(text=None)
    how = "paired" if row.gap.paired else "not paired"
    text = with_error(row.gap.value, row.gap.error, row.metric)
    return TextCell(text=text, below=how if row.is_gap else f"no gap · {how}")


def _seed_panels(rows: Sequence[MetricRow], names: Sequence[str]) -> list[StudyPanel]:
    panels = []
    for row in rows:
        figure = seed_dots({row.task: row.arms}, [row.metric], names, titles=False)
        label = f"{row.task}: {row.metric} of every arm"
        panels.append(StudyPanel(name=row.task, what=f"{row.metric} · {row.split}", figure=inline(figure, label)))
    return panels


def _curve_panels(report: StudyReport, names: Sequence[str]) -> Mapping[str, list[StudyPanel]]:
    """Learning curves by title and task."""
    return {
        title: [
            StudyPanel(
                name=task,
                what="",
                figure=inline(band_curves({task: curves}, names, titles=False), f"{task}: {title} over steps"),
            )
            for task, curves in tasks.items()
        ]
        for title, tasks in (report.curves or {}).items()
    }
