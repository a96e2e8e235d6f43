"""The curves of a run's log: losses in training and on held-out data, metrics with chance, and how the run went."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uniperceiver.evaluation.answers.kind import CANDIDATES
from uniperceiver.evaluation.evaluate import lower_is_better
from uniperceiver.report.figures.curves import LearningCurve, learning_curves
from uniperceiver.report.figures.svg import inline
from uniperceiver.report.parts.numbers import count, finite, written
from uniperceiver.report.parts.series import Series, read_keys, read_series
from uniperceiver.report.run.records import RunReport

if TYPE_CHECKING:
    from markupsafe import Markup

# Of the run as a whole: key in the log -> title, event.
_RUN = {
    "lr": ("learning rate", "train"),
    "grad_norm": ("gradient norm", "train"),
    "samples_per_second": ("samples per second", "train"),
    "tokens_per_second": ("tokens per second", "train"),
    "padding": ("padding: share of the tokens", "train"),
    "score": ("score: mean loss of the tasks", "evaluate"),
}


@dataclass(frozen=True, kw_only=True)
class CurvePanel:
    """Holds a curve under its name and newest value."""

    name: str
    tone: int | None  # None: of no task
    newest: str
    what: str
    figure: "Markup"


@dataclass(frozen=True, kw_only=True)
class CurveGroup:
    """Holds curves that belong together."""

    title: str
    explained: str
    panels: Sequence[CurvePanel]


def curve_groups(report: RunReport) -> list[CurveGroup]:
    """Draw all curves of the log; groups without any are left out."""
    losses, metrics, run = training_losses(report), validation_metrics(report), run_curves(report)
    splits = [f"{curve.metric} · {split}{_best(curve)}" for curve, split in metrics]
    last = max((finite(line.get("step")) or 0.0 for line in report.log), default=0.0)
    groups = [
        (
            "Loss",
            "Nats per answer. In colour: training, smoothed, with the logged values behind; augmentation and label "
            "smoothing raise it. Dark with dots: held-out data (val). Where val rises while training falls, data are "
            "learnt by heart: train shorter, or on more. Retrieval has no val here: its loss is among the texts of a "
            "batch in training, and among those of the split in evaluations.",
            losses,
            [_held_out(curve) for curve in losses],
        ),
        (
            "Validation",
            "The main metric of each task, with chance as a dashed line. On at most evaluation.limit samples: "
            "recall there is among fewer texts than in the final figures.",
            [curve for curve, _ in metrics],
            splits,
        ),
        ("The run", "", run, [""] * len(run)),
    ]
    return [
        CurveGroup(
            title=title,
            explained=explained,
            panels=[
                _panel(curve, what, last, task=title != "The run") for curve, what in zip(curves, whats, strict=True)
            ],
        )
        for title, explained, curves, whats in groups
        if curves
    ]


def training_losses(report: RunReport) -> list[LearningCurve]:
    """Read the training loss of each task from the log, with that on its validation split where they compare."""
    names = [key.removesuffix("/loss") for key in read_keys(report.log, "train") if key.endswith("/loss")]
    curves = (
        _curve(report, "train", f"{name}/loss", name, "loss", noisy=True, beside=_validation_loss(report, name))
        for name in _by_task(names, report)
    )
    return [curve for curve in curves if len(curve.series)]


def _validation_loss(report: RunReport, task: str) -> Series | None:
    """The loss on the validation split, as evaluations in training found it; None: none, or among other candidates."""
    if any(metrics.get(CANDIDATES) for metrics in report.results.get(task, {}).values()):
        return None
    series = read_series(report.log, "evaluate", f"{task}/val/loss")
    return series if len(series) else None


def _held_out(curve: LearningCurve) -> str:
    """The newest loss on held-out data, and when it was lowest, where that was earlier."""
    points = None if curve.beside is None else curve.beside.at(curve.beside.finite_N)
    if points is None or not len(points):
        return ""
    lowest = int(points.value_N.argmin())
    newest, least = (written(float(points.value_N[place]), curve.metric) for place in (-1, lowest))
    step = count(float(points.step_N[lowest]))
    return f"val {newest}" + (f" · lowest {least} at step {step}" if lowest < len(points) - 1 else "")


def validation_metrics(report: RunReport) -> list[tuple[LearningCurve, str]]:
    """Read the main metric of each task and split from the log, with the split's name."""
    curves: dict[str, list[tuple[LearningCurve, str]]] = {}
    for key in read_keys(report.log, "evaluate"):
        task, *rest = key.rsplit("/", 2)  # "birds/val/accuracy@1"
        if len(rest) != 2 or rest[1] == "loss" or rest[1] == "chance" or rest[1].startswith("chance_"):
            continue
        split, metric = rest
        if metric != report.main_metrics.get(task, metric):
            continue
        chances_N = read_series(report.log, "evaluate", f"{task}/{split}/chance").value_N
        chance = finite(float(chances_N[-1])) if len(chances_N) else None
        curve = _curve(report, "evaluate", key, task, metric, chance=chance)
        if len(curve.series):
            curves.setdefault(task, []).append((curve, split))
    return [pair for task in _by_task(curves, report) for pair in curves[task]]


def run_curves(report: RunReport) -> list[LearningCurve]:
    """Read from the log how the run went: learning rate, gradient norm, samples per second, score."""
    curves = (
        _curve(report, event, key, title, key, noisy=event == "train" and key != "lr")
        for key, (title, event) in _RUN.items()
    )
    return [curve for curve in curves if len(curve.series)]


def _curve(report: RunReport, event: str, key: str, name: str, metric: str, **how: Any) -> LearningCurve:
    tone = report.tone(name) if name in report.tasks else 0
    return LearningCurve(name=name, metric=metric, series=read_series(report.log, event, key), tone=tone, **how)


def _panel(curve: LearningCurve, what: str, last_step: float, *, task: bool) -> CurvePanel:
    value_N = curve.line.value_N[curve.line.finite_N]
    newest = written(float(value_N[-1]), curve.metric) if len(value_N) else "no finite value"
    figure = learning_curves([curve], last_step=last_step, titles=False)
    label = f"{curve.name}: {what or curve.metric} over steps, newest {newest}"
    tone = curve.tone if task else None
    return CurvePanel(name=curve.name, tone=tone, newest=newest, what=what, figure=inline(figure, label))


def _best(curve: LearningCurve) -> str:
    """When the best value was, where that was earlier than the newest."""
    points: Series = curve.series.at(curve.series.finite_N)
    best = int(points.value_N.argmax()) if len(points) else 0
    if best >= len(points) - 1 or lower_is_better(curve.metric):
        return ""
    return f" · best {written(float(points.value_N[best]), curve.metric)} at step {count(float(points.step_N[best]))}"


def _by_task(names: Iterable[str] | Mapping[str, Any], report: RunReport) -> list[str]:
    """The names in the order of the report's tasks, others last."""
    order = {name: index for index, name in enumerate(report.results)}
    return sorted(names, key=lambda name: order.get(name, len(order)))
