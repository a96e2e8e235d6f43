"""The benchmark of the conversion: what it asserts of each model, and its memory at the sizes where that says much."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import convert
from tests.model.official.made_up import original
from tests.shared import OFFICIAL

TINY, BASE = "keys_tiny_moe_7tasks.json", "keys_base_dense_16tasks_stage2.json"
needs_keys = pytest.mark.skipif(not (OFFICIAL / TINY).is_file(), reason=f"no lists of full-size names at {OFFICIAL}")


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """The names and shapes of a small model whose width is that of one head."""
    shapes = {
        name: [64 if side == 16 else 192 if side == 48 else side for side in tensor.shape]
        for name, tensor in original(moe=True).items()
    }
    twins = [[f"{part}_embed.embeddings_norm.{kind}" for part in ("token", "video")] for kind in ("weight", "bias")]
    path = tmp_path / "keys_small.json"
    path.write_text(json.dumps({"keys": shapes, "shared_tensors": twins}))
    return path


def converted(listed: Path, folder: Path) -> convert.Cost:
    """As `measure`, but in this process."""
    values = json.loads(listed.read_text())
    torch.save({"model": convert.random_state(values["keys"], values["shared_tensors"])}, folder / "original.pth")
    return convert.convert_once(listed, folder / "original.pth", folder / "model")


def test_every_tensor_is_used_or_has_a_reason(listed: Path, tmp_path: Path) -> None:
    cost = converted(listed, tmp_path)
    assert (cost.model, cost.missing, cost.unexplained) == ("small", 0, 0)
    assert cost.used + sum(cost.unused.values()) == len(original(moe=True))
    assert sum(count for reason, count in cost.unused.items() if "gate" in reason) == 20
    assert cost.whole
    assert not replace(cost, missing=1).whole
    assert not replace(cost, unexplained=1).whole


def test_memory_is_compared_with_file_and_model() -> None:
    fields = {"model": "m", "used": 1, "unused": {}, "unexplained": 0, "missing": 0, "seconds": 1.0}
    cost = convert.Cost(**fields, file_bytes=100, model_bytes=100, start_bytes=50, peak_bytes=350)  # type: ignore[arg-type]
    assert (cost.ratio, cost.whole_ratio) == (1.5, 1.75)


def test_too_little_memory_or_disk_is_said_before_anything_is_written(
    listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(SystemExit, match=r"keys_small.json: needs .* GB of disk in .*, 0.0 GB are free"):
        convert.measure(listed, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [listed.name]


@needs_keys
def test_the_tiny_model_converts(tmp_path: Path) -> None:
    cost = converted(OFFICIAL / TINY, tmp_path)
    assert cost.whole
    assert cost.used == 984


@pytest.mark.slow
def test_the_command(listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["convert", str(listed), "--folder", str(tmp_path), "--json", f"{tmp_path}/a.json"]
    )
    convert.main()
    (row,) = json.loads((tmp_path / "a.json").read_text())
    assert row["whole_ratio"] > row["ratio"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", listed.name]


@needs_keys
@pytest.mark.slow
def test_memory_stays_within_its_goal(tmp_path: Path) -> None:
    cost = convert.measure(OFFICIAL / BASE, tmp_path)
    assert cost.whole
    assert cost.ratio <= convert.GOAL
    assert cost.whole_ratio <= convert.GOAL
