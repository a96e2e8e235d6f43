"""Graphs of torch.compile: a few for each task and shape, all of them told, and nothing else computed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.small_run import log_lines, small_recipe, train

SHAPES: dict[str, Any] = {
    "steps": 14,
    "model__patch": 8,
    "model__drop_path": 0.0,
    "sampling": {"mode": "unmixed", "tasks_per_step": 1, "order": "even", "round": 16},
    "tasks__motions__shapes": [{"drop": 0.5}, {"size": 16}],
    "evaluation": {"every": 7, "limit": 4, "batch": 8},
}


@pytest.fixture(autouse=True)
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are traced as ever, but run as they are: kernels would take minutes."""
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **options: compile_module(self, backend="eager", **options)
    )
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of the tracer's own making
def test_a_graph_is_for_one_signature(tmp_path: Path) -> None:
    runs = {}
    for how in (False, "shapes"):
        runs[how] = train(tmp_path / str(how), small_recipe(("motions", "colours"), **SHAPES, optimiser__compile=how))
    assert not log_lines(tmp_path / "False", "graphs")
    told = log_lines(tmp_path / "shapes", "graphs")
    assert [line["graphs"] for line in told] == [sum(other["new"] for other in told[: i + 1]) for i in range(len(told))]
    assert all(line["seconds"] > 0 for line in told)
    # Each has graphs of its own, unless another's are of the same sizes, until all were seen twice; evaluations' graphs
    # are none of a step's.
    signatures = {"motions (32 px, 2 frames, drop 0.5)", "motions (16 px, 2 frames)", "colours (32 px)"}
    assert {name for line in told for name in line["signatures"]} <= signatures
    assert len(told) >= 2
    assert told[-1]["step"] <= 2 * len(signatures)
    assert told[-1]["graphs"] <= 2 * len(signatures)  # passes over inputs and over candidates
    assert not [line for line in log_lines(tmp_path / "shapes", "note") if "graphs" in line["text"]]
    for plain, compiled in zip(*(run.state.model.parameters() for run in runs.values()), strict=True):
        torch.testing.assert_close(compiled, plain)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_sizes_that_never_come_back_are_told_once(tmp_path: Path) -> None:
    sampling = {"mode": "unmixed", "tasks_per_step": 1}
    train(tmp_path, small_recipe(("relations",), steps=9, sampling=sampling, optimiser__compile="shapes"))
    notes = [line["text"] for line in log_lines(tmp_path, "note") if "still new graphs" in line["text"]]
    assert len(notes) == 1
    assert notes[0].endswith("set sampling.round, or optimiser.compile=true")
