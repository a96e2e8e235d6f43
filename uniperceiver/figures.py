"""Figures for papers and notebooks: one function each, from plain records to a matplotlib figure.

They are the figures of report.html. `run_figures` draws all that a run has data for; `save_figures` writes PDF and PNG.
No window opens, and nothing of matplotlib's global state changes: a notebook shows a figure that stands last in a cell.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from uniperceiver.evaluation.experts import Experts
from uniperceiver.interference.records import from_values as read_interference
from uniperceiver.moe.statistics import GateFigures
from uniperceiver.report.figures import (
    LearningCurve,
    band_curves,
    confusion_map,
    expert_panels,
    expert_weights,
    image_of,
    interference_heat_maps,
    interference_over_depth,
    interference_over_training,
    learning_curves,
    metric_dots,
    save_figures,
    seed_dots,
)
from uniperceiver.report.parts.numbers import MetricValue
from uniperceiver.report.parts.series import Series, read_series
from uniperceiver.report.run import figures as drawings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Experts",
    "GateFigures",
    "LearningCurve",
    "MetricValue",
    "Series",
    "band_curves",
    "confusion_map",
    "expert_panels",
    "expert_weights",
    "image_of",
    "interference_heat_maps",
    "interference_over_depth",
    "interference_over_training",
    "learning_curves",
    "metric_dots",
    "read_interference",
    "read_series",
    "run_figures",
    "save_figures",
    "seed_dots",
]


def run_figures(run: str | Path) -> "dict[str, Figure]":
    """Draw all figures that a finished run has data for, by name: "metrics_...", "training_loss", "interference", ...

    Raises:
        UserError: the folder holds no finished run, or its data are gone.

    Example:
        >>> from pathlib import Path
        >>> from uniperceiver.figures import run_figures, save_figures
        >>> figures = run_figures("runs/tiny")  # the run that `uniperceiver.train` has as its example
        >>> list(figures)
        ['metrics_accuracy_1', 'training_loss', 'validation', 'run', 'confusion_colours']
        >>> [path.name for path in save_figures(figures, Path("runs/tiny/figures"))][:2]
        ['metrics_accuracy_1.pdf', 'metrics_accuracy_1.png']
    """
    from uniperceiver.runs.report import read_results, run_report

    return drawings.run_figures(run_report(Path(run), read_results(Path(run))))
