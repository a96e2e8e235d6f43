"""The figures of a run that stand alone, for a paper or a notebook: all tasks side by side."""

from operator import attrgetter
from typing import TYPE_CHECKING

from uniperceiver.evaluation.experts import Experts
from uniperceiver.interference.records import Interference
from uniperceiver.report.figures.canvas import file_names
from uniperceiver.report.figures.curves import learning_curves
from uniperceiver.report.figures.dots import metric_dots
from uniperceiver.report.figures.gates import expert_panels, expert_weights
from uniperceiver.report.figures.heat_maps import interference_heat_maps
from uniperceiver.report.figures.interference import interference_over_depth, interference_over_training
from uniperceiver.report.parts.numbers import headline_split
from uniperceiver.report.run.classes import class_figures
from uniperceiver.report.run.curves import run_curves, training_losses, validation_metrics
from uniperceiver.report.run.interference import kinds_of, names_in
from uniperceiver.report.run.records import RunReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def run_figures(report: RunReport) -> "dict[str, Figure]":
    """Draw all figures that a run has data for, by the names of their files."""
    figures = metric_figures(report)
    curves = {
        "training_loss": training_losses(report),
        "validation": [curve for curve, _ in validation_metrics(report)],
        "run": run_curves(report),
    }
    figures |= {name: learning_curves(group) for name, group in curves.items() if group}
    figures |= class_figures(report)
    if report.experts is not None:
        figures |= experts_figures(report.experts)
    measurements = sorted((measured for measured in report.interference if measured.layers), key=attrgetter("step"))
    if measurements:
        figures |= interference_figures(measurements[-1])
        layers = measurements[-1].layers
        ends = {layer.name: layer for layer in (layers[0], layers[-1])}
        for name, file_name in file_names(ends).items():
            over = [measured for measured in measurements if name in names_in(measured)]
            if len({measured.step for measured in over}) > 1:
                figures[f"interference_over_training_{file_name}"] = interference_over_training(over, ends[name])
    return figures


def metric_figures(report: RunReport) -> "dict[str, Figure]":
    """Draw the main metric of every task beside chance, a figure for each metric."""
    by_metric: dict[str, dict[str, str]] = {}  # metric -> task -> split
    for task, splits in report.results.items():
        split = headline_split({name: metrics for name, metrics in splits.items() if metrics})
        if split is not None:
            by_metric.setdefault(report.main_metric(task, splits[split]), {})[task] = split
    names = file_names(by_metric)
    return {
        f"metrics_{names[metric]}": metric_dots(
            {task: report.main_value(task, report.results[task][split]) for task, split in tasks.items()},
            tones=[report.tone(task) for task in tasks],
        )
        for metric, tasks in by_metric.items()
    }


def experts_figures(experts: Experts) -> "dict[str, Figure]":
    """Draw which tokens go to which experts, a figure for each part with gates."""
    return {
        f"experts_{part}{f'_{gate + 1}' * bool(gate)}": expert_weights(experts, part, gate)
        for part, gate in expert_panels(experts)
    }


def interference_figures(measured: Interference) -> "dict[str, Figure]":
    """Draw who helps and who hurts whom, and how that changes from layer to layer."""
    figures = {"interference": interference_heat_maps(measured)}
    kinds = kinds_of(measured)
    names = file_names(kinds)
    for kind, layers in kinds.items():
        if len({layer.layer for layer in layers}) > 1 and len(measured.tasks) > 1:
            figures[f"interference_over_depth_{names[kind]}"] = interference_over_depth(measured, layers)
    return figures
