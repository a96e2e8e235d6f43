"""The section of interference: heat maps of the newest measurement, curves over depth and over training."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from uniperceiver.interference.records import Interference, InterferenceLayer
from uniperceiver.report.figures.heat_maps import HOW, interference_heat_maps, strength
from uniperceiver.report.figures.interference import (
    LIMIT,
    SOLID,
    interference_over_depth,
    interference_over_training,
)
from uniperceiver.report.figures.svg import inline
from uniperceiver.report.parts.numbers import count, short_names
from uniperceiver.report.run.records import RunReport

if TYPE_CHECKING:
    from markupsafe import Markup

_ALL_OPEN = 4  # so many layers are all shown; of more the first, the middle and the last, and the rest is folded
_NAME = 24  # most characters
_SWATCHES = (-1.0, -0.3, -0.05, 0.05, 0.3, 1.0)
_OUTSIDE = ""  # the kind of all parameters that are not in one layer


@dataclass(frozen=True, kw_only=True)
class LayerPanel:
    """Holds the heat map of a group of parameters."""

    name: str  # "layer 3", or the parameters' name
    parameters: str | None
    figure: "Markup"


@dataclass(frozen=True, kw_only=True)
class TaskPanel:
    """Holds a chart of what the steps of others do to a task."""

    task: str
    tone: int
    figure: "Markup"


@dataclass(frozen=True, kw_only=True)
class KindOfParameters:
    """Holds all pictures of the same parameters of different layers."""

    name: str  # "encoder.blocks.*.ffn.linear2.weight"
    shown: Sequence[LayerPanel]
    hidden: Sequence[LayerPanel]
    over_depth: Sequence[TaskPanel]
    over_training: Sequence[tuple[str, Sequence[TaskPanel]]]  # layer, panels


@dataclass(frozen=True, kw_only=True)
class InterferenceSection:
    """Holds who helps and who hurts whom, in words and figures."""

    explained: str
    swatches: Sequence[tuple[float, float]]  # value, strength of its colour
    any_missing: bool
    any_interval: bool
    steps: Sequence[tuple[int, bool, str]]  # of the legend of the charts: place in the palette, dashed, task
    kinds: Sequence[KindOfParameters]
    limit: float = LIMIT


def interference_section(report: RunReport) -> InterferenceSection | None:
    """Draw who helps and who hurts whom, by the newest measurement; None where nothing was measured."""
    measurements = sorted((measured for measured in report.interference if measured.layers), key=attrgetter("step"))
    if not measurements:
        return None
    newest = measurements[-1]
    estimates = [layer.estimate for layer in newest.layers]
    names = short_names(newest.tasks, _NAME)
    return InterferenceSection(
        explained=(
            f"How one step for a task changes the loss of another: {HOW}. The unit is what a task's own step does for "
            f"it, so the diagonal is 1. Measured after {count(newest.step)} training steps on {count(newest.batches)} "
            f"batches per task, for the parameters {newest.parameters}. Point at a number for its interval, cosine and "
            "conflict rate."
        ),
        swatches=[(value, strength(value)) for value in _SWATCHES],
        any_missing=any(np.isnan(estimate.matrix_KK).any() for estimate in estimates),
        any_interval=any(np.isfinite(estimate.low_KK + estimate.high_KK).any() for estimate in estimates),
        steps=[
            (report.tone(task), place >= SOLID, name)
            for place, (task, name) in enumerate(zip(newest.tasks, names, strict=True))
        ],
        kinds=[_kind(report, measurements, kind, layers) for kind, layers in kinds_of(newest).items()],
    )


def kinds_of(measured: Interference) -> dict[str, list[InterferenceLayer]]:
    """Gather the same parameters of different layers, by depth: "encoder.blocks.*.ffn.linear2.weight" -> its layers."""
    kinds: dict[str, list[InterferenceLayer]] = {}
    for layer in measured.layers:
        number = rf"(?<!\w){layer.layer}(?!\w)"
        kind = _OUTSIDE if layer.layer is None else re.sub(number, "*", layer.name, count=1)
        kinds.setdefault(kind, []).append(layer)
    return {kind: sorted(layers, key=lambda layer: layer.layer or 0) for kind, layers in kinds.items()}


def _kind(
    report: RunReport, measurements: Sequence[Interference], kind: str, layers: Sequence[InterferenceLayer]
) -> KindOfParameters:
    newest = measurements[-1]
    shown = [layers[0], layers[len(layers) // 2], layers[-1]] if len(layers) > _ALL_OPEN else list(layers)
    return KindOfParameters(
        name=kind or "Other parameters",
        shown=[_layer_panel(newest, layer) for layer in shown],
        hidden=[_layer_panel(newest, layer) for layer in layers if layer not in shown],
        over_depth=_over_depth(report, newest, layers),
        over_training=_over_training(report, measurements, layers),
    )


def _layer_panel(measured: Interference, layer: InterferenceLayer) -> LayerPanel:
    figure = interference_heat_maps(measured, [layer], columns=1, titles=False)
    name = layer.name if layer.layer is None else f"layer {layer.layer}"
    parameters = None if layer.layer is None else layer.name
    return LayerPanel(name=name, parameters=parameters, figure=inline(figure, f"interference in {layer.name}: {HOW}"))


def _over_depth(report: RunReport, newest: Interference, layers: Sequence[InterferenceLayer]) -> list[TaskPanel]:
    depths = [layer.layer for layer in layers if layer.layer is not None]
    if len(set(depths)) < 2 or len(depths) < len(layers) or len(newest.tasks) < 2:
        return []
    label = "what the steps of other tasks do to it, by layer"
    return [
        TaskPanel(
            task=name,
            tone=report.tone(task),
            figure=inline(interference_over_depth(newest, layers, [task], titles=False), f"{task}: {label}"),
        )
        for task, name in zip(newest.tasks, short_names(newest.tasks, _NAME), strict=True)
    ]


def _over_training(
    report: RunReport, measurements: Sequence[Interference], layers: Sequence[InterferenceLayer]
) -> list[tuple[str, list[TaskPanel]]]:
    """A shallow and a deep layer in all measurements of the run that looked at them."""
    tasks = measurements[-1].tasks
    label = "what the steps of other tasks do to it, by step"
    groups = []
    for layer in (layers[0], layers[-1])[: len(layers)]:
        by_step = {measured.step: measured for measured in measurements if layer.name in names_in(measured)}
        if len(by_step) < 2 or len(tasks) < 2:
            continue
        panels = [
            TaskPanel(
                task=name,
                tone=report.tone(task),
                figure=inline(
                    interference_over_training(list(by_step.values()), layer, [task], titles=False), f"{task}: {label}"
                ),
            )
            for task, name in zip(tasks, short_names(tasks, _NAME), strict=True)
        ]
        groups.append((layer.name if layer.layer is None else f"Layer {layer.layer}", panels))
    return groups


def names_in(measured: Interference) -> set[str]:
    """List the names of the parameters that a measurement looked at."""
    return {layer.name for layer in measured.layers}
