"""The benchmark of a study's inference runs on one with dense, merged and token-routed arms."""

import math
from pathlib import Path

import pytest

from benchmarks.served import measure
from tests.small_run import small_recipe, train
from uniperceiver.errors import UserError

ARMS = ("shared", "attribute", "token")


def test_every_arm_is_measured_and_merged_where_it_can_be(tmp_path: Path) -> None:
    for arm in ARMS:
        section = {} if arm == "shared" else {"moe": {"condition": arm, "experts": 3}}
        train(tmp_path / "cells" / arm / "seed-0", small_recipe(("colours", "captions"), steps=1, **section))
    rows = {row.name: row for row in measure(1, tmp_path)}
    parts = {tuple(name.split("/")[i] for i in (1, 3)) for name in rows}
    assert parts == {
        ("attribute over shared", "experts"),
        ("attribute over shared", "merged"),
        ("token over shared", "experts"),
    }
    assert all(math.isfinite(row.value) and row.value > 0 for row in rows.values())


def test_without_a_dense_arm_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    recipe = small_recipe(("colours", "captions"), steps=1, moe={"condition": "task", "experts": 3})
    train(tmp_path / "cells" / "task" / "seed-0", recipe)
    with pytest.raises(UserError, match="none of its arms is a dense model"):
        measure(1, tmp_path)
    with pytest.raises(UserError, match="name the folder of a study"):
        measure(1, None)
