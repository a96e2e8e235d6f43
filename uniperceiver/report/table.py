"""The table of all figures: a row per metric, a column per split."""

from collections.abc import Mapping, Sequence

from uniperceiver.report.contents import Metrics, RunReport
from uniperceiver.report.markup import Html, element
from uniperceiver.report.numbers import (
    Figure,
    count,
    figure,
    finite,
    in_reading_order,
    lower_is_better,
    metric_names,
    written,
)
from uniperceiver.report.summary import main_metric_of
from uniperceiver.report.tones import tone


def table_section(report: RunReport) -> Html | None:
    """All metrics of all tasks and splits, with intervals and chance."""
    splits = in_reading_order({name: None for each in report.results.values() for name in each if each[name]})
    if not splits:
        return None
    columns = element("tr", element("th", "metric"), *(element("th", name) for name in splits))
    bodies = (_task(report, task, figures, splits) for task, figures in report.results.items() if any(figures.values()))
    return element(
        "section",
        element("h2", "All figures"),
        element(
            "p",
            "With each value its 95 % interval and, where it is known, what chance gives. ",
            element("span", "✓", class_="good"),
            " marks values whose whole interval is above chance; ↓ means that lower is better.",
            class_="explained",
        ),
        element("div", element("table", element("thead", columns), *bodies), class_="scrolled"),
        id="figures",
    )


def _task(report: RunReport, task: str, figures: Mapping[str, Metrics], splits: Sequence[str]) -> Html:
    names = list(dict.fromkeys(name for metrics in figures.values() for name in metric_names(metrics)))
    head = element(
        "tr",
        element("th", task, scope="rowgroup"),
        *(element("td", _size(figures.get(split, {}))) for split in splits),
        class_="head",
    )
    return element(
        "tbody",
        head,
        *(_metric(report, task, figures, splits, name) for name in names),
        class_="task",
        style=tone(report, task),
    )


def _metric(report: RunReport, task: str, figures: Mapping[str, Metrics], splits: Sequence[str], name: str) -> Html:
    cells = []
    is_main = False
    for split in splits:
        metrics = figures.get(split, {})
        main = main_metric_of(report, task, metrics)
        is_main |= name == main
        cells.append(_cell(figure(metrics, name, main)) if name in metrics else element("td", "–", class_="none"))
    label = f"{name} ↓" if lower_is_better(name) else name
    return element("tr", element("th", label, scope="row"), *cells, class_="main" if is_main else None)


def _cell(shown: Figure) -> Html:
    interval = chance = None
    if shown.low is not None and shown.high is not None:
        interval = element("small", f"{written(shown.low, shown.name)} – {written(shown.high, shown.name)}")
    if shown.chance is not None:
        chance = element("small", f"chance {written(shown.chance, shown.name)}", class_="chance")
    good = element("span", "✓", class_="good", title="clearly above chance") if shown.above_chance else None
    return element("td", element("b", written(shown.value, shown.name)), good, interval, chance)


def _size(metrics: Metrics) -> str:
    n = finite(metrics.get("n"))
    return "" if n is None else f"n = {count(n)}"
