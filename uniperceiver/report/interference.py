"""The section of interference: heat maps of the newest measurement, curves over depth and over training."""

from collections.abc import Sequence

from uniperceiver.interference.records import Interference, InterferenceLayer
from uniperceiver.report.contents import RunReport
from uniperceiver.report.interference_cells import cell_of, kinds_of, rows_of, short_names
from uniperceiver.report.interference_chart import LIMIT, Line, draw_lines
from uniperceiver.report.interference_heat import heat_legend, heat_maps
from uniperceiver.report.markup import Html, element, join
from uniperceiver.report.numbers import count
from uniperceiver.report.tones import tone

_ALL_OPEN = 4  # so many layers are all shown; of more the first, the middle and the last, and the rest is folded
_SOLID = 4  # the lines of tasks after these are dashed, as colours alone are hard to tell apart
_NAME = 24  # most characters
_HOW = "row: the task that is affected; column: the task that takes the step; positive helps, negative hurts"


def interference_section(report: RunReport) -> Html | None:
    """Who helps and who hurts whom, by the newest measurement; None where nothing was measured."""
    measured = sorted((each for each in report.interference if each.layers), key=lambda each: each.step)
    if not measured:
        return None
    newest = measured[-1]
    cells = [cell for layer in newest.layers for row in rows_of(newest.tasks, layer) for cell in row]
    kinds = kinds_of(newest)
    parts = [_part(report, measured, layers) for layers in kinds.values()]
    rest = (_folded(kind or "Other parameters", part) for kind, part in zip(list(kinds)[1:], parts[1:], strict=True))
    return element(
        "section",
        element("h2", "Interference"),
        element("p", _explained(newest), class_="explained"),
        heat_legend(cells),
        parts[0],
        *rest,
        id="interference",
    )


def _explained(newest: Interference) -> str:
    return (
        f"How one step for a task changes the loss of another: {_HOW}. The unit is what a task's own step does for "
        f"it, so the diagonal is 1. Measured after {count(newest.step)} training steps on {count(newest.batches)} "
        f"batches per task, for the parameters {newest.parameters}. Point at a number for its interval, cosine and "
        "conflict rate."
    )


def _part(report: RunReport, measured: Sequence[Interference], layers: Sequence[InterferenceLayer]) -> Html:
    """All pictures of the same parameters of different layers."""
    newest = measured[-1]
    shown = _chosen(layers)
    hidden = [each for each in layers if each not in shown]
    more = f"{len(hidden)} more layer{'s' * (len(hidden) > 1)}"
    return join(
        heat_maps(newest.tasks, shown),
        _folded(more, heat_maps(newest.tasks, hidden)) if hidden else None,
        _over_depth(report, newest, layers),
        _over_training(report, measured, layers),
    )


def _chosen(layers: Sequence[InterferenceLayer]) -> list[InterferenceLayer]:
    if len(layers) <= _ALL_OPEN:
        return list(layers)
    return [layers[0], layers[len(layers) // 2], layers[-1]]


def _over_depth(report: RunReport, newest: Interference, layers: Sequence[InterferenceLayer]) -> Html | None:
    depths = [each.layer for each in layers if each.layer is not None]
    if len(set(depths)) < 2 or len(depths) < len(layers) or len(newest.tasks) < 2:
        return None
    points = [(newest, each) for each in layers]
    return join(
        element("h3", "Over depth"),
        element("p", _chart_words("from the first layer to the last"), class_="explained"),
        _line_legend(report, newest.tasks),
        _charts(report, newest.tasks, "layer", depths, points),
    )


def _over_training(
    report: RunReport, measured: Sequence[Interference], layers: Sequence[InterferenceLayer]
) -> Html | None:
    """A shallow and a deep layer in all measurements of the run that looked at them."""
    tasks = measured[-1].tasks
    groups: list[Html] = []
    for layer in dict.fromkeys((layers[0], layers[-1])):
        by_step = {each.step: each for each in measured if any(one.name == layer.name for one in each.layers)}
        if len(by_step) < 2 or len(tasks) < 2:
            continue
        points = [(each, layer) for each in by_step.values()]
        title = layer.name if layer.layer is None else f"Layer {layer.layer}"
        groups += [element("h4", title), _charts(report, tasks, "step", list(by_step), points)]
    if not groups:
        return None
    return join(
        element("h3", "Over training"),
        element("p", _chart_words("in the measurements made during training"), class_="explained"),
        _line_legend(report, tasks),
        *groups,
    )


def _chart_words(where: str) -> str:
    return (
        f"Each chart is an affected task, each line a task that takes the step, {where}; its own step, always 1, is "
        f"left out. Bands are 95\u202f% intervals, lines are faint where none of them excludes 0; "
        f"what lies beyond ±{LIMIT:g} is drawn at the edge."
    )


def _line_legend(report: RunReport, tasks: Sequence[str]) -> Html:
    keys = (
        element(
            "span",
            element("span", class_=f"key line task{_dash(place)}", style=tone(report, task)),
            name,
            class_="pair",
        )
        for place, (task, name) in enumerate(zip(tasks, short_names(tasks, _NAME), strict=True))
    )
    return element("p", "a step of", *keys, class_="explained keys long")


def _charts(
    report: RunReport,
    tasks: Sequence[str],
    unit: str,
    places: Sequence[float],
    points: Sequence[tuple[Interference, InterferenceLayer]],
) -> Html:
    """A chart for each affected task; `points` are the measurement and the parameters at each place."""
    names = short_names(tasks, _NAME)
    panels = []
    for affected, title in zip(tasks, names, strict=True):
        lines = [
            Line(
                name=names[place],
                style=tone(report, task),
                dashed=bool(_dash(place)),
                cells=[cell_of(measured, layer.name, affected, task) for measured, layer in points],
            )
            for place, task in enumerate(tasks)
            if task != affected
        ]
        svg = draw_lines(f"{affected}: what the steps of other tasks do to it, by {unit}", unit, places, lines)
        caption = element("figcaption", element("span", title, class_="name"), element("small", "is affected"))
        panels.append(element("figure", caption, svg, class_="panel task", style=tone(report, affected)))
    return element("div", *panels, class_="panels")


def _dash(place: int) -> str:
    return " dashed" if place >= _SOLID else ""


def _folded(title: str, content: Html) -> Html:
    return element("details", element("summary", title), content, class_="more")
