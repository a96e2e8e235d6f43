"""Recorded numbers through our records and functions: the original's where they are, and always a small set of our own.

Sources: the official code, run on CPU in float32; of our own the plain restatement in tests/golden/original (renewed by
`python -m tests.golden.make_original`).
"""

from pathlib import Path

import pytest

from benchmarks.golden.cases import case_names, convert_folder, load_case, model_folders
from benchmarks.golden.compare import findings_of
from benchmarks.golden.steps import NOT_REPEATED, findings_of_steps
from tests.golden.make_original import GOLDEN as SMALL
from tests.shared import GOLDEN, needs_golden


def cases_in(root: Path) -> list[tuple[Path, str]]:
    """All cases of a set of recordings."""
    return [(folder, name) for folder in model_folders(root) for name in case_names(folder)]


def name_of(value: object) -> str:
    """Of a folder its last part."""
    return value.name if isinstance(value, Path) else str(value)


def check(folder: Path, name: str) -> None:
    """Nothing is beyond tolerance, and what must be compared was."""
    case = load_case(folder, name)
    found = findings_of(case, convert_folder(folder).model)
    assert found.beyond == [], found.errors
    expected = {"activations"}
    if name.endswith("_train"):
        expected |= {"losses", "gradients"}
    if any(".gate." in key for key in case.tensors):
        expected |= {"gate indices", "gate weights"}
    if "ids" in case.tensors:
        expected |= {"generated ids", "step logits", "log-likelihoods"}
    expected |= {quantity for key, quantity in (("logits", "logits"), ("cosine_i2t", "cosines")) if key in case.tensors}
    assert set(found.errors) >= expected


@pytest.mark.parametrize(("folder", "name"), cases_in(SMALL), ids=name_of)
def test_a_case_of_our_own(folder: Path, name: str) -> None:
    check(folder, name)


@needs_golden
@pytest.mark.parametrize(("folder", "name"), cases_in(GOLDEN) or [(GOLDEN, "none")], ids=name_of)
def test_a_case_of_the_original(folder: Path, name: str) -> None:
    check(folder, name)


def test_training_steps_of_our_own_lead_to_the_same_parameters() -> None:
    found = findings_of_steps(SMALL / "train_steps")
    assert found.beyond == [], found.errors
    assert set(found.errors) == {"losses", "gradients", "learning rates", "weight decays", "parameters"}
    assert not found.remarks


@needs_golden
def test_the_optimiser_is_the_originals() -> None:
    found = findings_of_steps(GOLDEN / "train_steps", [load_case(GOLDEN / "moe_odd", "text_mlm_train").model])
    assert found.beyond == [], found.errors
    assert found.remarks == [NOT_REPEATED]  # its initial weights are its final ones


def test_our_own_set_covers_all_kinds_of_cases() -> None:
    names = " ".join(name for _, name in cases_in(SMALL))
    for kind in ("classification", "retrieval", "mlm", "vqa", "greedy", "beam3", "video", "teacher_forced", "_eval"):
        assert kind in names
    assert sum(path.stat().st_size for path in SMALL.rglob("*") if path.is_file()) < 1_000_000
