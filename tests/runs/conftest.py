"""Runs and checkpoints that several files start from."""

from pathlib import Path

import pytest

from tests.small_run import small_recipe, train
from tests.started import EXPERTS, TASKS


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with experts, of two layers; nobody may change it."""
    folder = tmp_path_factory.mktemp("runs") / "routed"
    train(folder, small_recipe(TASKS, steps=1, model__layers=2, moe=EXPERTS))
    return folder


@pytest.fixture(scope="module")
def by_task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which every task has experts of its own; nobody may change it."""
    folder = tmp_path_factory.mktemp("runs") / "by_task"
    train(folder, small_recipe(TASKS, steps=1, moe={"condition": "task_specific"}))
    return folder
