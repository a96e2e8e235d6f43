"""Tables of a study's report: the arms by their first figures, and all figures."""

import math
from collections.abc import Sequence

from uniperceiver.report.markup import Html, element, join
from uniperceiver.report.numbers import count, finite, headline_split
from uniperceiver.studies.page_charts import hue, value_text, with_error
from uniperceiver.studies.records import MetricRow, SeedEstimate, StudyArm, StudyReport


def first_rows(report: StudyReport) -> list[MetricRow]:
    """Of each task the metric that it is judged by first, on held-out data where there are such."""
    found: list[MetricRow] = []
    for task in dict.fromkeys(row.task for row in report.rows):
        rows = {row.split: row for row in report.rows if row.task == task and row.first}
        split = headline_split(rows)
        found += [rows[split]] if split is not None else []
    return found


def percent(found: SeedEstimate) -> str:
    """A share with its standard error."""
    if not math.isfinite(found.value):
        return "–"
    error = finite(found.error)
    return f"{100 * found.value:.1f}\u202f%" + ("" if error is None else f" ± {100 * error:.1f}")


def gap_text(row: MetricRow, arm: str, report: StudyReport) -> str:
    """How much of the gap an arm closes, or that there is none; "" where nothing is compared."""
    if row.gap is None or arm not in row.arms:
        return ""
    if arm in (report.baseline, report.reference):
        return "baseline" if arm == report.baseline else "reference"
    return "no gap" if row.closed is None else f"gap closed {percent(row.closed[arm])}"


def arms_section(report: StudyReport) -> Html | None:
    """A row per arm: its first figure of every task, Δ_MTL and what it cost."""
    rows = first_rows(report)
    if not rows:
        return None
    split = headline_split(dict.fromkeys(row.split for row in rows)) or ""
    deltas = any(arm.delta for arm in report.arms)
    heads = [join(row.task, element("small", f"{row.metric}{' ↓' * row.lower} · {row.split}")) for row in rows]
    heads += [join("Δ_MTL", element("small", split))] if deltas else []
    heads += [join("time", element("small", "per step")), join("parameters"), join("runs")]
    body = (_arm(report, arm, rows, split if deltas else None) for arm in report.arms)
    table = element(
        "table",
        element("thead", element("tr", element("th", "arm"), *(element("th", head) for head in heads))),
        element("tbody", *body),
        class_="arms",
    )
    return element(
        "section",
        element("h2", "Arms"),
        element("p", _explained(report, rows), class_="explained"),
        element("div", table, class_="scrolled"),
        id="arms",
    )


def _explained(report: StudyReport, rows: Sequence[MetricRow]) -> str:
    text = "Means over the seeds, ± one standard error; ↓ means that lower is better."
    gaps = [row.gap for row in rows if row.gap is not None]
    if gaps:
        pairing = "paired by number" if all(gap.paired for gap in gaps) else "not paired, as some are missing"
        text += (
            f" Gap closed = (arm − {report.baseline}) / ({report.reference} − {report.baseline}), only where these two "
            f"differ by more than 2 standard errors of their difference (seeds {pairing}); its standard error is the "
            "jackknife's."
        )
    if any(arm.delta for arm in report.arms):
        text += " Δ_MTL is the mean relative gain over the single-task runs; above 0 is better than they are."
    if any(arm.time_ratio for arm in report.arms):
        text += f" Time per step is that of training, as a multiple of {report.baseline}'s."
    return text


def _arm(report: StudyReport, arm: StudyArm, rows: Sequence[MetricRow], split: str | None) -> Html:
    names = [each.name for each in report.arms]
    keys = ", ".join(f"{key}={value}" for key, value in arm.keys.items())
    name = join(element("span", arm.name, class_="arm", style=hue(names, arm.name)), element("small", keys))
    cells = [_figure(row, arm.name, report) for row in rows]
    if split is not None:
        found = (arm.delta or {}).get(split)
        cells.append(_missing() if found is None else element("td", percent(found)))
    failed = element("small", f"{len(arm.failed)} failed", class_="bad") if arm.failed else None
    size = "–" if arm.parameters is None else f"{arm.parameters / 1e6:.3g} M"
    return element(
        "tr",
        element("th", name, scope="row"),
        *cells,
        _time(arm),
        element("td", size),
        element("td", count(len(arm.done)), failed),
    )


def _figure(row: MetricRow, arm: str, report: StudyReport) -> Html:
    if arm not in row.arms:
        return _missing()
    text = gap_text(row, arm, report)
    return element("td", value_text(row.arms[arm], row.metric), element("small", text) if text else None)


def _time(arm: StudyArm) -> Html:
    if arm.step_seconds is None:
        return _missing()
    ratio = arm.time_ratio
    shown = f"{1000 * arm.step_seconds.mean:.3g} ms"
    if ratio is None or not math.isfinite(ratio.value):
        return element("td", shown)
    error = "" if not math.isfinite(ratio.error) else f" ± {ratio.error:.2f}"
    return element("td", f"{ratio.value:.2f}{error}", element("small", shown))


def _missing() -> Html:
    return element("td", "–", class_="none")


def figures_section(report: StudyReport) -> Html | None:
    """All metrics of all tasks and splits in all arms."""
    if not report.rows:
        return None
    arms = [arm.name for arm in report.arms]
    gap = any(row.gap for row in report.rows)
    heads = ["metric", *([f"{report.reference} − {report.baseline}"] if gap else []), *arms]
    by_task: dict[str, list[MetricRow]] = {}
    for row in report.rows:
        by_task.setdefault(row.task, []).append(row)
    table = element(
        "table",
        element("thead", element("tr", *(element("th", each) for each in heads))),
        *(_task(report, task, rows, arms, gap) for task, rows in by_task.items()),
        class_="arms",
    )
    return element("section", element("h2", "All figures"), element("div", table, class_="scrolled"), id="figures")


def _task(report: StudyReport, task: str, rows: Sequence[MetricRow], arms: Sequence[str], gap: bool) -> Html:
    body = [element("tr", element("th", task, scope="rowgroup"), element("td", colspan=len(arms) + gap), class_="head")]
    for row in rows:
        label = join(f"{row.metric}{' ↓' * row.lower}", element("small", row.split))
        cells = ([_gap(row)] if gap else []) + [_figure(row, arm, report) for arm in arms]
        body.append(element("tr", element("th", label, scope="row"), *cells, class_="main" if row.first else None))
    return element("tbody", *body)


def _gap(row: MetricRow) -> Html:
    if row.gap is None:
        return _missing()
    how = "paired" if row.gap.paired else "not paired"
    text = with_error(row.gap.value, row.gap.error, row.metric)
    return element("td", text, element("small", how if row.is_gap else f"no gap · {how}"))
