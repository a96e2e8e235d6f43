"""The top of the page: facts of the run, and each task's main figure against chance."""

from collections.abc import Mapping

from uniperceiver.report import page
from uniperceiver.report.contents import Metrics, RunReport
from uniperceiver.report.markup import Html, element, join
from uniperceiver.report.numbers import (
    Figure,
    count,
    figure,
    finite,
    headline_split,
    in_reading_order,
    is_share,
    metric_names,
    written,
)
from uniperceiver.report.tones import tone


def header(report: RunReport) -> Html:
    """Title, verdict and facts."""
    verdict = _verdict(report) if report.results else None
    return page.header("training report", report.title, verdict, report.facts)


def cards_section(report: RunReport) -> Html | None:
    """A card per task."""
    cards = [_card(report, task, splits) for task, splits in report.results.items() if any(splits.values())]
    if not cards:
        return None
    key = element(
        "p",
        element("span", class_="key dot"),
        "result ",
        element("span", class_="key band"),
        "95 % interval ",
        element("span", class_="key tick"),
        "chance",
        class_="explained keys",
    )
    return element("section", element("h2", "Tasks"), key, element("div", *cards, class_="cards"), id="tasks")


def main_metric_of(report: RunReport, task: str, metrics: Metrics) -> str:
    """The task's main metric, or else its first."""
    main = report.main_metrics.get(task, "")
    return main if main in metrics else next(iter(metric_names(metrics)), main)


def _verdict(report: RunReport) -> str:
    """One sentence on all tasks; what is not held out is counted apart."""
    held_out, above, training = 0, 0, 0
    for task, splits in report.results.items():
        split = headline_split(splits)
        if split is None or split == "train":
            training += 1
            continue
        held_out += 1
        above += _main_figure(report, task, splits[split]).above_chance is True
    parts = []
    if held_out:
        parts.append(f"{above} of {held_out} task{'s' * (held_out > 1)} clearly above chance on held-out data")
    if training:
        parts.append(f"{training} task{'s' * (training > 1)} measured on training data only")
    return "; ".join(parts) + "."


def _main_figure(report: RunReport, task: str, metrics: Metrics) -> Figure:
    main = main_metric_of(report, task, metrics)
    return figure(metrics, main, main)


def _card(report: RunReport, task: str, splits: Mapping[str, Metrics]) -> Html:
    split = headline_split({name: metrics for name, metrics in splits.items() if metrics}) or ""
    shown = {name: _main_figure(report, task, splits[name]) for name in in_reading_order(splits) if splits[name]}
    best = shown[split]
    right = _scale(shown)
    rows = (
        element(
            "div",
            element("span", name, class_="split"),
            _track(each, right),
            element("span", written(each.value, each.name)),
        )
        for name, each in shown.items()
    )
    n = finite(splits[split].get("n"))
    on = split if n is None else f"{split}, n\u00a0=\u00a0{count(n)}"
    chance = None if best.chance is None else f"chance {written(best.chance, best.name)}"
    about = (element("p", text, class_="on") for text in (best.name, on, chance) if text)
    return element(
        "article",
        element("h3", task),
        mark(best),
        element("p", written(best.value, best.name), class_="value"),
        element("div", *about, class_="about"),
        element("div", *rows, class_="tracks"),
        class_="card task",
        style=tone(report, task),
    )


def mark(shown: Figure) -> Html | None:
    """Whether the figure is clearly above chance, as a sign with words; nothing where it cannot be said."""
    if shown.above_chance is None:
        return None
    if shown.above_chance:
        return element("span", "✓ clearly above chance", class_="mark good")
    return element("span", "not clearly above chance", class_="mark open")


def _scale(shown: Mapping[str, Figure]) -> float:
    """The value at the right end of a card's bars: 1 for shares, else somewhat more than the largest figure."""
    numbers = [each for one in shown.values() for each in (one.value, one.high, one.chance) if each is not None]
    largest = max(numbers, default=1.0)
    return 1.0 if all(is_share(one.name) for one in shown.values()) and largest <= 1 else (1.15 * largest or 1.0)


def _track(shown: Figure, right: float) -> Html:
    """Value, interval and chance on a line from 0 to `right`."""

    def place(value: float) -> float:
        return round(100 * min(max(value / right if right > 0 else 0.0, 0.0), 1.0), 2)

    title = f"{shown.name} {written(shown.value, shown.name)}"
    band = tick = dot = None
    if shown.low is not None and shown.high is not None:
        low, high = place(shown.low), place(shown.high)
        band = element("i", class_="band", style=f"left:{low}%;width:{max(high - low, 0):.2f}%")
        title += f", 95 % interval {written(shown.low, shown.name)} to {written(shown.high, shown.name)}"
    if shown.chance is not None:
        tick = element("i", class_="tick", style=f"left:{place(shown.chance)}%")
        title += f", chance {written(shown.chance, shown.name)}"
    if shown.value is not None:
        dot = element("i", class_="dot", style=f"left:{place(shown.value)}%")
    bar = element("i", class_="bar", style=f"width:{place(shown.value)}%") if shown.value is not None else None
    return element("span", join(bar, band, tick, dot), class_="track", title=title)
