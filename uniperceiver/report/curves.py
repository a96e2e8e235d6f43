"""The section of curves: what the run's log says, one small chart per thing."""

from collections.abc import Sequence

from uniperceiver.report.chart import Chart, Curve, draw
from uniperceiver.report.contents import RunReport
from uniperceiver.report.markup import Html, element, join
from uniperceiver.report.numbers import count, finite, lower_is_better, written
from uniperceiver.report.series import Series, read_keys, read_series, smoothed
from uniperceiver.report.tones import tone

_NOISY = 12  # shorter curves are drawn as they are
_RUN = {
    "lr": ("learning rate", "train"),
    "grad_norm": ("gradient norm", "train"),
    "samples_per_second": ("samples per second", "train"),
    "score": ("score: mean loss of the tasks", "evaluate"),
}


def curves_section(report: RunReport) -> Html | None:
    """All curves of the log; None where the log has none."""
    groups = join(
        _group("Training loss", "Nats per answer: smoothed, with the logged values behind.", _training(report)),
        _group("Validation", "The main metric of each task, with chance as a dashed line.", _validation(report)),
        _group("The run", "", _of_the_run(report)),
    )
    if not groups.text:
        return None
    return element("section", element("h2", "Curves"), groups, id="curves")


def _group(title: str, explained: str, panels: Sequence[Html]) -> Html | None:
    if not panels:
        return None
    return join(
        element("h3", title),
        element("p", explained, class_="explained") if explained else None,
        element("div", *panels, class_="panels"),
    )


def _training(report: RunReport) -> list[Html]:
    names = [key.removesuffix("/loss") for key in read_keys(report.log, "train") if key.endswith("/loss")]
    panels = []
    for name in _by_task(names, report):
        series = read_series(report.log, "train", f"{name}/loss")
        panels.append(_panel(report, name, "loss", series, noisy=True, task=name))
    return [each for each in panels if each]


def _validation(report: RunReport) -> list[Html]:
    panels: dict[str, list[Html | None]] = {}
    for key in read_keys(report.log, "evaluate"):
        name, metric = _task_and_metric(key, report)
        if metric is None or metric != report.main_metrics.get(name, metric) or metric == "loss":
            continue
        stem = key.removesuffix(f"/{metric}")
        series = read_series(report.log, "evaluate", key)
        chances = read_series(report.log, "evaluate", f"{stem}/chance").value_N
        level = finite(float(chances[-1])) if len(chances) else None
        title = f"{metric} · {stem.removeprefix(f'{name}/')}"
        panels.setdefault(name, []).append(_panel(report, name, metric, series, task=name, title=title, level=level))
    return [each for name in _by_task(panels, report) for each in panels[name] if each]


def _task_and_metric(key: str, report: RunReport) -> tuple[str, str | None]:
    """ "birds/val/accuracy@1" -> birds, accuracy@1; nothing that is a metric: None."""
    name, *rest = key.rsplit("/", 2)
    if len(rest) != 2 or rest[1] == "chance" or rest[1].startswith("chance_"):
        return name, None
    return name, rest[1]


def _of_the_run(report: RunReport) -> list[Html]:
    panels = []
    for key, (title, event) in _RUN.items():
        series = read_series(report.log, event, key)
        panels.append(_panel(report, title, key, series, noisy=event == "train" and key != "lr"))
    return [each for each in panels if each]


def _panel(
    report: RunReport,
    name: str,
    metric: str,
    series: Series,
    *,
    noisy: bool = False,
    task: str | None = None,
    title: str = "",
    level: float | None = None,
) -> Html | None:
    """A chart under its name and newest value; None where there is nothing to draw."""
    if not len(series):
        return None
    smooth = noisy and int(series.finite_N.sum()) > _NOISY
    line = smoothed(series, half_life=max(1.5, len(series) / 40)) if smooth else series
    chart = Chart(
        title=f"{name}: {title or metric} over steps",
        metric=metric,
        curves=[Curve(series=series, kind="raw"), Curve(series=line)] if smooth else [Curve(series=line)],
        last_step=max((finite(each.get("step")) or 0.0 for each in report.log), default=0.0),
        level=level,
        level_name="chance",
        from_zero=level is not None,
    )
    return element(
        "figure",
        element("figcaption", element("span", name, class_="name"), element("b", _newest(line, metric))),
        element("p", f"{title}{_best(line, metric)}", class_="what") if title else None,
        draw(chart),
        class_="panel" if task is None else "panel task",
        style=None if task is None else tone(report, task),
    )


def _newest(series: Series, metric: str) -> str:
    value_N = series.value_N[series.finite_N]
    return written(float(value_N[-1]), metric) if len(value_N) else "no finite value"


def _best(series: Series, metric: str) -> str:
    """When the best value was, where that was earlier than the newest."""
    points = series.at(series.finite_N)
    best = int(points.value_N.argmax()) if len(points) else 0
    if best >= len(points) - 1 or lower_is_better(metric):
        return ""
    return f" · best {written(float(points.value_N[best]), metric)} at step {count(float(points.step_N[best]))}"


def _by_task(names: Sequence[str] | dict[str, list[Html | None]], report: RunReport) -> list[str]:
    """The names in the order of the report's tasks, unknown ones last."""
    order = {name: index for index, name in enumerate(report.results)}
    return sorted(names, key=lambda name: order.get(name, len(order)))
