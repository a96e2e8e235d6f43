"""Some cells of the resume matrix, with each value of each axis; `make soak` runs all of it (docs/reliability.md)."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from soak import resume

Expected = Callable[[str, str], str]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Expected:
    """The hash of a run that nobody stops, by mode and model."""
    return cache(lambda mode, model: resume.uninterrupted(tmp_path_factory.mktemp("whole"), mode, model))


# With workers, a run takes seconds.
CELLS = [
    ("0", "killed inside accumulation", "mixed", "token"),
    ("0", "smallest set ran out", "unmixed", "dense"),
    ("0", "twice", "mixed", "token"),
    pytest.param("0", "in warm-up", "unmixed", "attribute", marks=pytest.mark.slow),
    pytest.param("2", "mid-epoch", "mixed", "dense", marks=pytest.mark.slow),
    pytest.param("4", "epoch end", "unmixed", "token", marks=pytest.mark.slow),
    pytest.param("changed", "inside accumulation", "mixed", "attribute", marks=pytest.mark.slow),
    pytest.param("changed", "twice", "unmixed", "dense", marks=pytest.mark.slow),
]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("workers", "stop", "mode", "model"), CELLS)
def test_a_stopped_run_comes_to_the_same_state(
    tmp_path: Path, expected: Expected, workers: str, stop: str, mode: str, model: str
) -> None:
    assert resume.stopped(tmp_path, workers, stop, mode, model) == expected(mode, model)


def test_the_cells_have_each_value_of_each_axis() -> None:
    cells = [getattr(each, "values", each) for each in CELLS]
    for axis, all_values in enumerate((resume.WORKERS, resume.STOPS, resume.MODES, resume.MODELS)):
        assert {cell[axis] for cell in cells} == set(all_values)


def test_other_models_and_modes_come_to_other_states(expected: Expected) -> None:
    hashes = [expected(mode, model) for mode, model in (("mixed", "token"), ("unmixed", "dense"))]
    assert len(set(hashes)) == 2
