"""Runs and checkpoints that several files start from."""

from pathlib import Path

import pytest

from tests.converted import DENSE, MOE
from tests.model.official.made_up import write
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


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """A checkpoint of the original release."""
    return write(tmp_path / "dense.pth", DENSE)


@pytest.fixture
def moe(tmp_path: Path) -> Path:
    """A checkpoint of the original release, with experts."""
    return write(tmp_path / "moe.pth", MOE)
