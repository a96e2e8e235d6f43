"""The original release's numbers, through our records and functions (source: the official code, run on CPU in fp32)."""

from pathlib import Path

import pytest

from benchmarks.golden.__main__ import beyond
from benchmarks.golden.cases import case_names, convert_folder, load_case, model_folders
from benchmarks.golden.compare import errors_of
from benchmarks.golden.steps import errors_of_steps
from tests.shared import GOLDEN, needs_golden

pytestmark = needs_golden

CASES = [(folder, name) for folder in model_folders(GOLDEN) for name in case_names(folder)] or [(GOLDEN, "none")]


@pytest.mark.parametrize(("folder", "name"), CASES, ids=[f"{folder.name}/{name}" for folder, name in CASES])
def test_a_case_of_the_original(folder: Path, name: str) -> None:
    case = load_case(folder, name)
    errors = errors_of(case, convert_folder(folder).model)
    assert beyond(errors) == [], errors
    if name.endswith("_train"):
        assert {"losses", "gradients"} <= set(errors)
    if any(".gate." in key for key in case.tensors) and "ids" not in case.tensors:
        assert {"gate indices", "gate weights"} <= set(errors)


def test_the_optimiser_is_the_originals() -> None:
    case = load_case(GOLDEN / "moe_odd", "text_mlm_train")
    assert beyond(errors_of_steps(GOLDEN / "train_steps", case.model)) == []
