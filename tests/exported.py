"""Tiny models exported into folders, with the model itself to compare with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.moe_cases import VQA
from tests.tiny import VIEW, tiny_architecture, tiny_codec, tiny_model, tiny_task
from uniperceiver import UniPerceiver
from uniperceiver.runner import Runner
from uniperceiver.serving.saved import KnownTask, SavedModel

LABELS = ["a red circle", ["a blue square", "blue"], "cat"]
PICTURES = [np.random.default_rng(seed).integers(0, 255, (40, 48, 3), dtype=np.uint8) for seed in range(4)]
CLIPS = [np.random.default_rng(seed).integers(0, 255, (5, 36, 36, 3), dtype=np.uint8) for seed in range(3)]
TEXTS = ["A red circle", "", "a blue square left of a green triangle", "Σίσυφος ΣΑΣ"]
CLOSE = 1e-5


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """A model, and the folder that it was exported into."""

    model: UniPerceiver
    folder: Path
    report: dict[str, Any]

    @property
    def runner(self) -> Runner:
        return Runner(self.folder)


def tiny_saved(names: Sequence[str], **fields: Any) -> SavedModel:
    """A model of one layer with these tasks of the catalogue, or "vqa"."""
    fields = {"layers": 1, **fields}
    tasks = {name: VQA if name == "vqa" else tiny_task(name) for name in names}
    return SavedModel(
        model=tiny_model(**fields).eval(),
        arch=tiny_architecture(**fields),
        codec=tiny_codec(),
        tasks={
            name: KnownTask(task=task, index=index, preprocess=VIEW) for index, (name, task) in enumerate(tasks.items())
        },
    )


def exported(folder: Path, saved: SavedModel, **options: Any) -> ExportedModel:
    """The model, exported; the test is skipped where a package for it is missing."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed (uniperceiver[export])")
    model = UniPerceiver(saved)
    return ExportedModel(model=model, folder=folder, report=model.export(folder, **options))


def difference(ask: Callable[[Any], Any], of: ExportedModel) -> float:
    """The greatest difference between what the model and the export answer to a question."""
    expected, got = ask(of.model).numpy(), ask(of.runner)
    assert isinstance(got, np.ndarray)
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    return float(np.abs(expected - got).max(initial=0.0))


def files_of(report: Mapping[str, Any]) -> set[str]:
    """The graphs of a report."""
    return set(report["graphs"])
