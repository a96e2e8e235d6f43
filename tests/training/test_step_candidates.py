"""Candidates that the batches of a step share: the gradients are those of batches with candidates of their own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.small_run import TASKS, small_recipe
from tests.step_gradients import furthest, gradients_of_step
from uniperceiver import UserError
from uniperceiver.data.mix import Plan
from uniperceiver.parallel.world import World
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.tasks.candidates import Candidates, rows_of
from uniperceiver.training import step_candidates
from uniperceiver.training.objective import TrainingObjective

SETS = ("colours", "words", "captions")
QUIET = {"model__drop_path": 0.0, "moe__balance__switch": 0.0, "moe__noise": 0.0, "moe__experts": 4, "moe__k": 2}


def gradients(folder: Path, tasks: tuple[str, ...], **changes: Any) -> dict[str, Any]:
    return gradients_of_step(
        World(), folder, small_recipe(tasks, **{**QUIET, "sampling__tasks_per_step": 8, **changes})
    )


@pytest.mark.parametrize("condition", ["shared", "attribute", "token"])
def test_sets_that_are_encoded_once_have_the_same_gradients(
    tmp_path: Path, condition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_candidates, "_CHUNK", 100)  # the vocabulary is three chunks
    own = gradients(tmp_path, SETS, moe__condition=condition)
    shared = gradients(tmp_path, SETS, moe__condition=condition, candidates__share="step")
    assert {task for task, _ in own["losses"]} == set(SETS)
    for (task, loss), (other, expected) in zip(shared["losses"], own["losses"], strict=True):
        assert (task, loss) == (other, pytest.approx(expected, rel=1e-12))
    assert furthest(shared, own) < 1e-10
    assert shared["norm"] == pytest.approx(own["norm"], rel=1e-12)
    assert (shared["decided"] > 0) == (condition != "shared")


@pytest.mark.parametrize("method", ["pcgrad", "own_moments"])
def test_gradients_of_tasks_hold_those_of_their_candidates(tmp_path: Path, method: str) -> None:
    own = gradients(tmp_path, SETS, balance__method=method)
    shared = gradients(tmp_path, SETS, balance__method=method, candidates__share="step")
    assert furthest(shared, own) < 1e-10


@pytest.mark.parametrize("method", ["fixed", "pcgrad"])
def test_losses_that_balance_experts_weigh_as_with_candidates_of_each_batch(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The z loss is a mean over tokens, so that chunks of one size have its mean over all words."""
    monkeypatch.setattr(step_candidates, "_CHUNK", 140)  # the vocabulary is two chunks
    changes = {"moe__condition": "token", "moe__balance__z": 1.0, "balance__method": method}
    own = gradients(tmp_path, ("words", "colours"), **changes)
    shared = gradients(tmp_path, ("words", "colours"), **changes, candidates__share="step")
    without = gradients(tmp_path, ("words", "colours"), **{**changes, "moe__balance__z": 0.0})
    assert furthest(own, without) > 1e-3
    assert furthest(shared, own) < 1e-10


def test_texts_of_all_batches_are_those_of_one_large_batch(tmp_path: Path) -> None:
    """Two batches of three, compared with each other's texts, are one batch of six."""
    whole = gradients(tmp_path, ("retrieval",), sampling__tasks_per_step=1, tasks__retrieval__batch=6)
    step = gradients(tmp_path, ("retrieval",), sampling__tasks_per_step=2, tasks__retrieval__negatives="step")
    apart = gradients(tmp_path, ("retrieval",), sampling__tasks_per_step=2)
    assert furthest(step, whole) < 1e-10
    assert furthest(apart, whole) > 1e-3
    mean = sum(loss for _, loss in step["losses"]) / 2
    assert mean == pytest.approx(whole["losses"][0][1], rel=1e-12)


def test_other_branches_are_dropped_in_every_step_task_and_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tasks have the same names of colours, each twice: in a chunk of its own."""
    recipe = small_recipe(
        ("colours",), tasks__hues=TASKS["colours"], model__drop_path=0.5, model__layers=4, candidates__share="step"
    )
    objective = prepare_run(recipe, tmp_path, tmp_path / "run", quiet=True).objective
    names = objective.set_of(0, 0).sequences
    twice = rows_of(names, torch.arange(names.size).repeat(2))
    monkeypatch.setattr(step_candidates, "_CHUNK", names.size)
    monkeypatch.setattr(TrainingObjective, "set_of", lambda self, index, step: Candidates(sequences=twice))
    shared = step_candidates.StepCandidates(objective, World(), sets=True)

    def represented(step: int, index: int) -> Tensor:
        shared.begin(step, [], {0: {0: 3}, 1: {1: 3}})
        among = shared.among(Plan(step=step, place=index, index=index, start=0, count=3, stage=0))
        assert among is not None
        assert among.c_KD is not None
        return among.c_KD.detach()

    first = represented(0, 0)
    assert torch.equal(represented(0, 0), first)
    for other in (represented(1, 0), represented(0, 1), first.roll(names.size, 0)):
        assert (other - first).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"tasks__colours__negatives": "step"}, "tasks.colours.negatives: only a task whose candidates are the texts"),
        (
            {"candidates__share": "step", "interference__watch": True},
            "interference.watch: needs the gradients of single batches; remove it, or candidates.share",
        ),
        (
            {"tasks__retrieval__negatives": "step", "balance__method": "famo"},
            "balance.method=famo: needs the losses of single batches before their gradients; change it, or remove",
        ),
    ],
)
def test_what_cannot_share_is_refused(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        prepare_run(small_recipe(("colours", "retrieval"), **changes), tmp_path, tmp_path / "run", quiet=True)
