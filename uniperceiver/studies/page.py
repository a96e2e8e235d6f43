"""report.html of a study: its arms compared, as tables and pictures in one file that needs nothing else."""

from uniperceiver.report.markup import Html, element, join
from uniperceiver.report.page import header, page
from uniperceiver.studies.page_charts import dots, legend, lines
from uniperceiver.studies.page_tables import arms_section, figures_section, first_rows
from uniperceiver.studies.records import FailedCell, StudyReport


def render_study(report: StudyReport) -> str:
    """The page as HTML, to be written as UTF-8."""
    sections = {
        "Arms": arms_section(report),
        "Pictures": _pictures(report),
        "Curves": _curves(report),
        "Figures": figures_section(report),
        "Failures": _failures(report),
        "Study": _study(report),
    }
    top = header("study", report.title, _verdict(report), report.facts)
    return page(report.title, top, sections, styles=("study.css",))


def _verdict(report: StudyReport) -> str:
    """What came out, in a sentence."""
    rows = [row for row in first_rows(report) if row.gap is not None]
    if not report.rows:
        return "No run has ended yet."
    if not rows:
        return f"{len(report.arms)} arms, compared on {len(first_rows(report))} tasks."
    gaps = [row for row in rows if row.is_gap]
    if not gaps:
        return f"No gap: {report.reference} and {report.baseline} differ by no more than 2 standard errors on any task."
    better = [row.task for row in gaps if row.gap is not None and (row.gap.value < 0) == row.lower]
    worse = [row.task for row in gaps if row.task not in better]
    parts = [f"{report.reference} is clearly better than {report.baseline} on {', '.join(better)}"] if better else []
    parts += [f"{report.reference} is clearly worse than {report.baseline} on {', '.join(worse)}"] if worse else []
    rest = len(rows) - len(gaps)
    return "; ".join(parts) + (f"; no gap on the other {rest}." if rest else ".")


def _pictures(report: StudyReport) -> Html | None:
    rows = first_rows(report)
    if not rows:
        return None
    arms = [arm.name for arm in report.arms]
    panels = (
        element("figure", _caption(row.task, f"{row.metric} · {row.split}"), dots(arms, row), class_="panel")
        for row in rows
    )
    text = "A small dot is a seed, a large one the mean, with a line of one standard error to either side."
    return element(
        "section",
        element("h2", "Seeds"),
        element("p", text, class_="explained"),
        element("div", *panels, class_="panels"),
        id="pictures",
    )


def _curves(report: StudyReport) -> Html | None:
    if not report.curves:
        return None
    arms = [arm.name for arm in report.arms]
    groups = []
    for title, tasks in report.curves.items():
        panels = (
            element("figure", _caption(task, ""), lines(arms, curves, f"{task}: {title} over steps"), class_="panel")
            for task, curves in tasks.items()
        )
        groups.append(join(element("h3", title), element("div", *panels, class_="panels")))
    text = "Means over the seeds, in a band from the lowest to the highest; training losses are smoothed."
    explained = element("p", text, class_="explained")
    return element("section", element("h2", "Curves"), explained, legend(arms), *groups, id="curves")


def _caption(name: str, what: str) -> Html:
    return element("figcaption", element("span", name, class_="name"), element("span", what) if what else None)


def _failures(report: StudyReport) -> Html | None:
    if not report.failures:
        return None
    text = "What the runs said last. The same command tries them again."
    explained = element("p", text, class_="explained")
    return element(
        "section", element("h2", "Failures"), explained, *(_failure(each) for each in report.failures), id="failures"
    )


def _failure(failure: FailedCell) -> Html:
    said = "\n".join(failure.last_lines) or "(nothing)"
    summary = element("summary", f"{failure.arm}, seed {failure.seed}: {failure.why}")
    return element("details", summary, element("pre", said, class_="last"))


def _study(report: StudyReport) -> Html:
    folded = element("details", element("summary", "What was asked"), element("pre", report.study))
    return element("section", element("h2", "Study"), folded, id="study")
