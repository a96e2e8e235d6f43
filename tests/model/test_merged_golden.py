"""The original release's MoE weights, merged: still the original's numbers."""

import pytest
import torch

from tests.model import golden
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.build import build
from uniperceiver.model.merged import merge_model
from uniperceiver.model.model import Generalist
from uniperceiver.tasks.ask import ask
from uniperceiver.tasks.segments import segments_of

FOLDER = "moe_odd"
pytestmark = pytest.mark.skipif(not golden.FOLDER.is_dir(), reason=f"no golden data of the original at {golden.FOLDER}")


def names() -> list[str]:
    """The cases that have logits."""
    return [name for name in golden.cases(FOLDER) if "beam" not in name and "greedy" not in name] or ["none"]


@pytest.mark.parametrize("name", names())
@torch.no_grad()
def test_logits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Architecture] = []

    def noted(arch: Architecture, temperatures: tuple[str, ...]) -> Generalist:
        seen.append(arch)
        return build(arch, temperatures)

    monkeypatch.setattr(golden, "build", noted)
    case, model = golden.load_case(FOLDER, name), golden.load_model(FOLDER)
    task, batch, candidates = golden.batch_of(case)
    merging = merge_model(model, seen[0], {task.name: segments_of(task)})
    assert merging.together.rows == (2 if len(task.inputs) == 1 else 3)
    logits_RK = ask(merging.model, task, batch, candidates)
    expected = case.tensors.get("logits")
    if expected is None:
        expected = case.tensors["cosine_i2t"] * model.scale(task.temperature)
    assert float((logits_RK - expected).abs().max() / expected.abs().max()) <= 2e-5
