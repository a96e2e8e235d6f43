"""Runs that never were, for the tests of the report."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from uniperceiver.data.lengths import SplitFacts
from uniperceiver.evaluation.examples import Example
from uniperceiver.evaluation.experts import Experts
from uniperceiver.interference.estimate import InterferenceEstimate
from uniperceiver.interference.records import Interference, InterferenceLayer
from uniperceiver.moe.statistics import GateFigures
from uniperceiver.report.run.records import RunReport

TASKS = ("birds", "words", "tales")
WEIGHTS = {"birds": [0.7, 0.3, 0.0, 0.0], "words": [0.0, 0.2, 0.0, 0.8], "tales": [0.7, 0.3, 0.0, 0.0]}
METRICS = ("accuracy@1", "masked_accuracy", "cider_d", "i2t_recall@1")


def a_log(tasks: Sequence[str], lines: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Losses that fall, with noise; an evaluation after each tenth of the lines."""
    rng = np.random.default_rng(seed)
    log: list[dict[str, Any]] = []
    for index in range(1, lines + 1):
        step, share = 20 * index, index / lines
        losses = {f"{task}/loss": 0.6 + 3 * math.exp(-4 * share) * rng.lognormal(0, 0.15) for task in tasks}
        rest = {"grad_norm": rng.lognormal(0, 0.4), "lr": 1e-3 * (1 - share), "samples_per_second": rng.normal(240, 9)}
        log.append({"step": step, "event": "train", "time": 1e9 + step, **losses, **rest})
        if index % max(1, lines // 10) == 0:
            figures = {"score": 1 - 0.5 * share}
            for place, task in enumerate(tasks):
                main = METRICS[place % len(METRICS)]
                figures |= {f"{task}/val/{main}": 0.1 + 0.6 * share, f"{task}/val/chance": 0.1, f"{task}/val/loss": 1.0}
            log.append({"step": step, "event": "evaluate", "time": 1e9 + step, **figures})
    return log


def some_results(tasks: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Figures of three splits; every third task is not clearly above chance."""
    results: dict[str, dict[str, dict[str, float]]] = {}
    for place, task in enumerate(tasks):
        main, low = METRICS[place % len(METRICS)], 0.09 if place % 3 == 2 else 0.55
        metrics = {main: low + 0.06, f"{main}_low": low, f"{main}_high": low + 0.12, "chance": 0.1}
        other = {"bleu4": 0.21, "bleu4_low": 0.15, "bleu4_high": 0.27, "chance_bleu4": 0.08}
        loss = {"loss": 1.1, "loss_low": 1.0, "loss_high": 1.2, "perplexity": 3.0}
        results[task] = {split: metrics | other | loss | {"n": 200} for split in ("train", "val", "test")}
    return results


def a_picture(side: int = 48, *, shift: int = 0) -> np.ndarray:
    """A square on a gradient, (side, side, 3) uint8."""
    ramp = np.linspace(30, 220, side).astype(np.uint8)
    frame_HWC = np.stack(
        [np.tile(ramp, (side, 1)), np.tile(ramp[:, None], (1, side)), np.full((side, side), 90)], axis=-1
    )
    frame_HWC[side // 4 : side // 2, 4 + shift : side // 4 + 4 + shift] = (240, 80, 60)
    return frame_HWC.astype(np.uint8)


def some_examples(task: str) -> list[Example]:
    """An image, a clip, a caption and a text."""
    still, clip = (a_picture(),), tuple(a_picture(shift=2 * index) for index in range(8))
    choices = (("a square", 0.82), ("a circle", 0.16), ("a triangle", 0.004))
    common = {"task": task, "split": "val"}
    return [
        Example(**common, sample="one.png", frames=still, truth=("a square",), answers=choices, right=True),
        Example(**common, sample="two.mp4", frames=clip, truth=("a circle",), answers=choices, right=False),
        Example(**common, sample="3", frames=still, truth=("a red square",), answers=(("a red box", math.nan),)),
        Example(**common, sample="4", text="a long day [...] ends", truth=("well",), answers=(("badly", None),)),
    ]


def some_facts(task: str = "birds", split: str = "train", **changes: Any) -> SplitFacts:
    """A split of a hundred samples, a third of whose texts are cut."""
    facts: dict[str, Any] = {"samples": 100, "classes": 7, "texts": 90, "cut": 30, "length": 64}
    return SplitFacts(task=task, split=split, **(facts | changes))


def a_report(tasks: Sequence[str] = ("birds", "words", "tales"), *, lines: int = 100, **changes: Any) -> RunReport:
    """A whole run."""
    parts: dict[str, Any] = {
        "title": "demo",
        "facts": {"parameters": "1.1 M", "steps": "2,000"},
        "recipe": "seed: 0\ntasks:\n  birds: {kind: image_classification}\n",
        "log": a_log(tasks, lines),
        "results": some_results(tasks),
        "main_metrics": {task: METRICS[place % len(METRICS)] for place, task in enumerate(tasks)},
        "examples": [example for task in tasks for example in some_examples(task)],
        "data": [some_facts(task, split) for task in tasks for split in ("train", "val")],
    }
    return RunReport(**(parts | changes))


def a_table(value: float | None, own: float | None = 1.0, *, tasks: int = 3) -> tuple[tuple[float | None, ...], ...]:
    """Tasks x tasks: one value, and another on the diagonal."""
    return tuple(tuple(own if row == column else value for column in range(tasks)) for row in range(tasks))


def a_layer(
    layer: int | None = 0, *, tasks: int = 3, kind: str = "ffn.linear2.weight", **tables: Any
) -> InterferenceLayer:
    """Everyone helps everyone a little, which may be nothing."""
    values = {"matrix": 0.2, "low": 0.0, "high": 0.4, "mean_of_ratios": 0.3, "cosine": 0.1, "conflict_rate": 0.4}
    made = {name: a_table(value, tasks=tasks) for name, value in values.items()} | tables
    arrays = {f"{name}_KK": np.array(table, dtype=np.float64) for name, table in made.items()}
    name = kind if layer is None else f"encoder.blocks.{layer}.{kind}"
    return InterferenceLayer(name=name, layer=layer, estimate=InterferenceEstimate(**arrays))


def a_measurement(tasks: tuple[str, ...] = TASKS, *, step: int = 200, **changes: Any) -> Interference:
    """A measurement of two layers."""
    layers = tuple(a_layer(layer, tasks=len(tasks)) for layer in (0, 1))
    parts: dict[str, Any] = {"parameters": "*.ffn.linear2.weight", "batches": 100, "layers": layers}
    return Interference(step=step, tasks=tasks, **(parts | changes))


def a_gate(task: str = "birds", layer: int = 0, part: str = "ffn", **changes: Any) -> GateFigures:
    """What a gate decided for the visual tokens of a task."""
    weight = changes.pop("weight", WEIGHTS.get(task, [0.25] * 4))
    values: dict[str, Any] = {"side": "input", "kind": "visual", "gate": 0, "tokens": len(task), "entropy": 1.0}
    values |= {"load": [0.5 * bool(share) for share in weight], "drop_rate": 0.0, "unserved": 0.0, "top1": 0.6}
    return GateFigures(task=task, layer=layer, part=part, weight=weight, **{**values, **changes})


def some_experts(figures: Sequence[GateFigures] | None = None, **changes: Any) -> Experts:
    """Two layers, attention and FFN, of three tasks; two of them are treated alike."""
    if figures is None:
        figures = [a_gate(task, layer, part) for task in WEIGHTS for layer in (0, 2) for part in ("attention", "ffn")]
        figures += [a_gate("words", side="candidate", kind="text", weight=[0.5, 0, 0.5, 0])]
    return Experts(**{"condition": "attribute", "experts": 4, "k": 2, "figures": figures, **changes})
