"""Named streams: in a run every draw has a name of its own, so nothing random is drawn alike twice."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.small_run import TASKS, small_recipe, train
from uniperceiver import streams

STEPS, BATCHES = 8, 3  # with 12 samples a task and 3 a batch: two epochs and more
CHANGES: dict[str, Any] = {
    "steps": STEPS,
    "sampling__tasks_per_step": BATCHES,
    "tasks__hues": TASKS["colours"],
    "tasks__colours__augment": {"mixup": 0.2},
    "moe__condition": "token",
    "moe__experts": 2,
}


def drawn_in_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tasks: tuple[str, ...], **changes: Any
) -> dict[str, Counter[tuple[str | int, ...]]]:
    """How often each stream was opened, by its first name."""
    opened: dict[str, Counter[tuple[str | int, ...]]] = {}
    seed_of = streams.seed_of

    def noted(seed: int, *names: str | int) -> int:
        opened.setdefault(str(names[0]), Counter())[seed, *names] += 1
        return seed_of(seed, *names)

    monkeypatch.setattr(streams, "seed_of", noted)
    train(folder, small_recipe(tasks, **{**CHANGES, **changes}))
    return opened


def test_no_stream_of_a_batch_is_opened_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = drawn_in_training(
        tmp_path, monkeypatch, ("colours", "words"), candidates__sample=20, balance__method="pcgrad"
    )
    batches = STEPS * BATCHES
    assert len(opened["model"]) == batches
    assert len(opened["label texts"]) + len(opened["candidates"]) == batches
    assert min(map(len, (opened["label texts"], opened["candidates"], opened["mix"]))) > 1
    assert len(opened["sample"]) == 3 * batches
    assert len(opened["balance"]) > 1
    assert len(opened["tasks"]) >= STEPS  # whoever asks for the tasks of a step draws them again
    for name in ("model", "label texts", "candidates", "mix", "sample", "order", "balance"):
        assert set(opened[name].values()) == {1}, name


def test_no_stream_of_shared_candidates_is_opened_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = drawn_in_training(
        tmp_path,
        monkeypatch,
        ("colours", "words", "retrieval"),
        candidates__share="step",
        tasks__retrieval__negatives="step",
        sampling__tasks_per_step=2 * BATCHES,  # so that some steps have several batches of texts
    )
    assert len(opened["model"]) == 2 * STEPS * BATCHES
    assert {names[3] for names in opened["candidates"]} == {"colours", "hues", "words"}
    for name in ("model", "label texts", "candidates", "mix", "sample"):
        assert len(opened[name]) > 1
        assert set(opened[name].values()) == {1}, name
