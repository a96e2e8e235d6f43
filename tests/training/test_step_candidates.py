"""Candidates that the batches of a step share: the gradients are those of batches with candidates of their own."""

from pathlib import Path
from typing import Any

import pytest

from tests.small_run import small_recipe
from tests.step_gradients import furthest, gradients_of_step
from uniperceiver import UserError
from uniperceiver.parallel.world import World
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.training import step_candidates

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


def test_texts_of_all_batches_are_those_of_one_large_batch(tmp_path: Path) -> None:
    """Two batches of three, compared with each other's texts, are one batch of six."""
    whole = gradients(tmp_path, ("retrieval",), sampling__tasks_per_step=1, tasks__retrieval__batch=6)
    step = gradients(tmp_path, ("retrieval",), sampling__tasks_per_step=2, tasks__retrieval__negatives="step")
    apart = gradients(tmp_path, ("retrieval",), sampling__tasks_per_step=2)
    assert furthest(step, whole) < 1e-10
    assert furthest(apart, whole) > 1e-3
    mean = sum(loss for _, loss in step["losses"]) / 2
    assert mean == pytest.approx(whole["losses"][0][1], rel=1e-12)


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
