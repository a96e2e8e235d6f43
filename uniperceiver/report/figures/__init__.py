"""Figures: one function each, returning a matplotlib figure, for pages, TensorBoard, papers and notebooks alike."""

from uniperceiver.report.figures.canvas import file_names, image_of, save_figures
from uniperceiver.report.figures.confusion import confusion_map
from uniperceiver.report.figures.curves import LearningCurve, band_curves, learning_curves
from uniperceiver.report.figures.dots import metric_dots, seed_dots
from uniperceiver.report.figures.gates import expert_panels, expert_weights
from uniperceiver.report.figures.heat_maps import interference_heat_maps
from uniperceiver.report.figures.interference import interference_over_depth, interference_over_training

__all__ = [
    "LearningCurve",
    "band_curves",
    "confusion_map",
    "expert_panels",
    "expert_weights",
    "file_names",
    "image_of",
    "interference_heat_maps",
    "interference_over_depth",
    "interference_over_training",
    "learning_curves",
    "metric_dots",
    "save_figures",
    "seed_dots",
]
