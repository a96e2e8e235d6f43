"""The benchmark of a study's training and inference on one with dense, merged and token-routed arms."""

import math
from pathlib import Path

import pytest

from benchmarks.arms import measure
from tests.small_run import small_recipe, train
from uniperceiver.errors import UserError

ARMS = ("shared", "attribute", "token")


def test_every_arm_is_measured_and_merged_where_it_can_be(tmp_path: Path) -> None:
    for arm in ARMS:
        section = {} if arm == "shared" else {"moe": {"condition": arm, "experts": 3}}
        train(tmp_path / "cells" / arm / "seed-0", small_recipe(("colours", "captions"), steps=1, **section))
    (tmp_path / "study.json").write_text('{"baseline": "shared"}')
    rows = {row.name: row for row in measure(1, tmp_path)}
    parts = {tuple(name.split("/")[i] for i in (1, 3)) for name in rows}
    assert parts == {
        *((f"{arm} over shared", part) for arm in ("attribute", "token") for part in ("training", "inference")),
        ("attribute over shared", "inference merged"),
    }
    assert all(math.isfinite(row.value) and row.value > 0 for row in rows.values())


def test_without_a_baseline_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    recipe = small_recipe(("colours", "captions"), steps=1, moe={"condition": "task", "experts": 3})
    train(tmp_path / "cells" / "task" / "seed-0", recipe)
    for place in (tmp_path, None):
        with pytest.raises(UserError, match="name the folder of a study"):
            measure(1, place)
    (tmp_path / "study.json").write_text('{"baseline": null}')
    with pytest.raises(UserError, match="needs a run of a baseline"):
        measure(1, tmp_path)
