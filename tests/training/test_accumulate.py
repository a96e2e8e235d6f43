"""Batches that are accumulated learn as one large batch: they weigh by their answers."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.small_run import small_recipe
from tests.tiny import tiny_batch
from uniperceiver.config import TaskBalanceConfig
from uniperceiver.data.mix import BatchMaker
from uniperceiver.optimisation.balance.method import Method, TaskFacts
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.training.loop import Run
from uniperceiver.training.processes.team import Team
from uniperceiver.training.step import train_step


def first_step(
    folder: Path, task: str, method: Method | None = None, **changes: Any
) -> tuple[Run, dict[str, torch.Tensor], list[int]]:
    """A run after its first step: with its gradients, and the answers of the step's batches."""
    exact = {"model__drop_path": 0.0, "optimiser__clip": 0.0}
    run = prepare_run(small_recipe((task,), **exact, **changes), folder, folder / "run", quiet=True)
    run.state.method = method or run.state.method
    made = [BatchMaker(run.mixture)[plan] for plan in run.mixture.plans(0, [0])]
    work = [(plan, batch) for plan, batch, _ in made if batch is not None]
    train_step(run.state, work, run.objective, run.recipe.optimiser, 1 / run.mixture.batches_per_step)
    gradients = {name: value.grad for name, value in run.state.model.named_parameters() if value.grad is not None}
    return run, gradients, [batch.readout.answers for _, batch in work]


@pytest.mark.parametrize("mode", ["mixed", "unmixed"])
@pytest.mark.parametrize("task", ["captions", "words", "colours"])
def test_accumulated_batches_are_one_large_batch(tmp_path: Path, task: str, mode: str) -> None:
    batch = f"tasks__{task}__batch"
    changes = {"sampling__mode": mode, "sampling__tasks_per_step": 1}
    _, whole, (answers,) = first_step(tmp_path / "whole", task, **changes, **{batch: 6})
    _, parts, counts = first_step(tmp_path / "parts", task, **changes, **{batch: 2, "optimiser__accumulate": 3})
    assert sum(counts) == answers
    assert (len(set(counts)) > 1) == (task != "colours")
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-3, atol=2e-5)


def test_draws_weigh_alike_whatever_their_answers(tmp_path: Path) -> None:
    """Only batches of one draw are one batch; two draws of a task are a mean of two losses, as before."""
    changes = {"sampling__tasks_per_step": 2, "tasks__captions__batch": 2}
    run, gradients, counts = first_step(tmp_path / "draws", "captions", **changes)
    assert counts[0] != counts[1]
    run.state.model.zero_grad()
    other = prepare_run(run.recipe, tmp_path, tmp_path / "other", quiet=True)
    made = [BatchMaker(other.mixture)[plan] for plan in other.mixture.plans(0, [0])]
    sum(0.5 * other.objective(batch, plan).loss for plan, batch, _ in made if batch is not None).backward()
    for name, value in other.state.model.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(gradients[name], value.grad)


class Kept(Method):
    """The mean of the tasks' gradients, each kept apart."""

    needs_gradients = True


def test_the_gradient_of_a_task_is_weighed_alike(tmp_path: Path) -> None:
    """Kept apart and combined, the gradients of the only task are those of a plain step."""
    changes = {"sampling__tasks_per_step": 2, "optimiser__accumulate": 2, "tasks__captions__batch": 2}
    method = Kept({"captions": TaskFacts(share=1.0)}, TaskBalanceConfig(), 0)
    _, plain, counts = first_step(tmp_path / "plain", "captions", **changes)
    _, kept, _ = first_step(tmp_path / "kept", "captions", method, **changes)
    assert len(set(counts)) > 1
    for name, gradient in plain.items():
        torch.testing.assert_close(kept[name], gradient)


def test_a_batch_without_an_answer_takes_nothing_from_the_others() -> None:
    readout = tiny_batch("image_captioning").readout
    unknown = replace(readout, target_R=torch.full_like(readout.target_R, -1))
    assert (unknown.answers, readout.answers) == (0, len(readout.target_R))
    assert replace(unknown, soft_RK=torch.ones(3, 3), target_R=torch.tensor([-1, -1, -1])).answers == 3


def test_parts_of_a_draw_weigh_as_many_as_they_have_answers() -> None:
    """A part without any keeps the factor 1: its losses that balance experts count all the same."""
    answers = (1, 3, 0, 2, 0, 0)
    work: list[tuple[Any, Any]] = [
        (SimpleNamespace(place=place), SimpleNamespace(readout=SimpleNamespace(answers=count)))
        for place, count in enumerate(answers)
    ]
    assert Team().weights(work, 2) == [2 * 1 / 4, 2 * 3 / 4, 1.0, 2 * 2 / 2, 1.0, 1.0]
    assert Team().weights(work, 3) == [3 * 1 / 4, 3 * 3 / 4, 1.0, 3 * 2 / 2, 1.0, 1.0]
    assert Team().weights(work, 1) == [1.0] * 6
