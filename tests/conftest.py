"""What several tests share: one tiny run over all kinds of tasks, trained once per session."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.small_run import IMAGES, TASKS, small_recipe, train
from uniperceiver import UniPerceiver, load


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    """A command takes the threads of its recipe; with other threads the next test would compute other last bits."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; nobody may change it."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    recipe = small_recipe(tuple(TASKS), steps=6, tasks__colours__test={**IMAGES, "label": "colour", "split": "test"})
    train(folder, recipe)
    return folder


@pytest.fixture(scope="session")
def model(trained: Path) -> UniPerceiver:
    """The model of that run."""
    return load(trained)
