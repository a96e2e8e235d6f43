"""Checkpoints and runs that several files start from."""

from pathlib import Path

import pytest

from tests.converted import DENSE, MOE
from tests.model.official.made_up import write
from tests.runs.conftest import by_task, routed

__all__ = ["by_task", "routed"]


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """A checkpoint of the original release."""
    return write(tmp_path / "dense.pth", DENSE)


@pytest.fixture
def moe(tmp_path: Path) -> Path:
    """A checkpoint of the original release, with experts."""
    return write(tmp_path / "moe.pth", MOE)
