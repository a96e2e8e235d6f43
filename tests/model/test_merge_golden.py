"""The original release's MoE weights, merged: still the original's numbers."""

import pytest
import torch

from benchmarks.golden.cases import batch_of, case_names, convert_folder, load_case
from tests.shared import GOLDEN, needs_golden
from uniperceiver.model.merge import merge_model
from uniperceiver.tasks.ask import ask

FOLDER = GOLDEN / "moe_odd"
pytestmark = needs_golden


def names() -> list[str]:
    """The cases that have logits."""
    return [name for name in case_names(FOLDER) if "beam" not in name and "greedy" not in name] or ["none"]


@pytest.mark.parametrize("name", names())
@torch.no_grad()
def test_logits(name: str) -> None:
    case = load_case(FOLDER, name)
    converted = convert_folder(FOLDER)
    task, batch, candidates = batch_of(case)
    merging = merge_model(converted.model, converted.arch, {task.name: task.segments()})
    assert merging.together.rows == (2 if len(task.inputs) == 1 else 3)
    logits_RK = ask(merging.model, task, batch, candidates)
    expected = case.tensors.get("logits")
    if expected is None:
        expected = case.tensors["cosine_i2t"] * converted.model.scale(task.temperature)
    assert float((logits_RK - expected).abs().max() / expected.abs().max()) <= 2e-5
