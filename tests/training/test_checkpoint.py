"""Checkpoints: bitwise round trips, damage that is noticed, rotation that never loses the last good weights."""

import json
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from uniperceiver.errors import UserError
from uniperceiver.training import checkpoint

NAMES = ("model.safetensors", "optimiser.safetensors", "recipe.yaml", "state.json")


def save(root: Path, step: int, *, finite: bool = True) -> Path:
    folder = checkpoint.step_folder(root, step)
    tensors = {
        "model": {"weight": torch.full((3, 2), float(step)), "bias": torch.tensor(-0.0)},
        "optimiser": {"weight.exp_avg": torch.arange(5.0)},
    }
    checkpoint.write(folder, tensors, {"step": step, "finite": finite}, {"recipe.yaml": "steps: 7\n"})
    return folder


def test_every_type_comes_back_bit_for_bit(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    odd = torch.tensor([float("nan"), float("inf"), -0.0, 1e-45])
    base = torch.randn(4, 6, generator=generator)
    model = {
        "float32": odd,
        "bfloat16": odd.bfloat16(),
        "int64": torch.tensor([2**62, -1]),
        "bool": torch.tensor([[True, False]]),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base.clone()),
        "transposed": base.T,
        "part": base[1:3, ::2],
        "tied": base,
        "tied_again": base,
    }
    state = {"format": 99, "step": 3, "rate": 0.1 + 0.2, "counters": {"a": [1, 2**62]}, "best": None}
    checkpoint.write(tmp_path / "one", {"model": model, "ema": {}}, state)
    tensors, state_again = checkpoint.read(tmp_path / "one")
    assert state_again == state
    assert set(tensors) == {"model", "ema"}
    assert set(tensors["model"]) == set(model)
    assert not tensors["ema"]
    for name, before in model.items():
        after = tensors["model"][name]
        assert (after.dtype, after.shape) == (before.dtype, before.shape), name
        same = after.reshape(-1).view(torch.uint8).equal(before.detach().contiguous().reshape(-1).view(torch.uint8))
        assert same, name
        assert after.data_ptr() % 64 == 0, f"{name} lies at an odd address"


def test_what_was_read_is_independent_of_the_file(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    checkpoint.read(folder)[0]["model"]["weight"].zero_()
    assert checkpoint.read(folder)[0]["model"]["weight"].eq(1).all()


def test_nothing_is_pickled_and_texts_go_along(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    assert (folder / "recipe.yaml").read_bytes() == b"steps: 7\n"
    assert json.loads((folder / "state.json").read_text())["state"] == {"step": 1, "finite": True}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_named(tmp_path: Path, name: str, share: float) -> None:
    path = save(tmp_path, 1) / name
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=rf"{re.escape(name)}: (truncated|not valid JSON).*; remove this checkpoint"):
        checkpoint.read(path.parent)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = save(tmp_path, 1)
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{re.escape(name)}: cannot be read \(No such file.*; remove this"):
        checkpoint.read(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_is_noticed(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, 1) / name
    whole = path.read_bytes()
    expected = checkpoint.read(path.parent)[1]
    for place in range(0, len(whole), 7):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        with pytest.raises(UserError) as caught:
            checkpoint.read(path.parent)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    path.write_bytes(whole)
    assert checkpoint.read(path.parent)[1] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "damaged"),
        ("{}", "damaged"),
        ("{'format': 1}", "not valid JSON"),
        ('{"format": 2}', "format 2, of a newer uniperceiver .*upgrade it"),
    ],
)
def test_a_state_that_is_not_ours(tmp_path: Path, text: str, message: str) -> None:
    folder = save(tmp_path, 1)
    (folder / "state.json").write_text(text)
    with pytest.raises(UserError, match=rf"state\.json: {message}"):
        checkpoint.read(folder)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent: no such checkpoint; give a folder such as"):
        checkpoint.read(tmp_path / "absent")


def test_state_must_be_plain_json(tmp_path: Path) -> None:
    save(tmp_path, 1)
    folder = checkpoint.step_folder(tmp_path, 1)
    with pytest.raises(AssertionError, match="keys"):
        checkpoint.write(folder, {}, {"counters": {3: "three"}})
    with pytest.raises(TypeError, match="Tensor"):
        checkpoint.write(folder, {}, {"step": torch.tensor(3)})
    assert checkpoint.read(folder)[1]["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_checkpoints_are_listed_by_step(tmp_path: Path) -> None:
    for step in (20, 1_000_000, 3, 200_000):
        save(tmp_path, step)
    (tmp_path / "step-000099").write_text("a file")
    (tmp_path / "step-best").mkdir()
    names = [path.name for path in checkpoint.list_checkpoints(tmp_path)]
    assert names == ["step-000003", "step-000020", "step-200000", "step-1000000"]
    assert checkpoint.list_checkpoints(tmp_path / "absent") == []


def test_a_damaged_checkpoint_is_skipped_and_reported(tmp_path: Path) -> None:
    assert checkpoint.newest_valid(tmp_path) == checkpoint.NewestCheckpoint(path=None)
    first, second, third = [save(tmp_path, step) for step in (1, 2, 3)]
    assert checkpoint.newest_valid(tmp_path) == checkpoint.NewestCheckpoint(path=third)
    (third / "model.safetensors").unlink()
    weights = bytearray((second / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (second / "model.safetensors").write_bytes(weights)
    found = checkpoint.newest_valid(tmp_path)
    assert found.path == first
    assert [name in reason for name, reason in zip((third.name, second.name), found.skipped, strict=True)] == [True] * 2
    (first / "state.json").unlink()
    with pytest.raises(UserError, match="none of its 3 checkpoints is whole"):
        checkpoint.newest_valid(tmp_path)


def test_rotation_keeps_the_newest_the_best_and_the_last_finite(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4, 5, 6):
        save(tmp_path, step, finite=step <= 3)
    left = checkpoint.rotate(tmp_path, keep=2, best=tmp_path / "step-000001")
    assert [path.name for path in left] == ["step-000002", "step-000004"]
    # A truncated one is no longer the last one with finite weights.
    save(tmp_path, 7)
    (tmp_path / "step-000007" / "model.safetensors").write_bytes(b"")
    checkpoint.rotate(tmp_path, keep=1)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-000003", "step-000007"]


@given(st.lists(st.booleans(), max_size=8), st.integers(1, 5), st.integers(-1, 8))
def test_rotation_rules(finite: list[bool], keep: int, best: int) -> None:
    checkpoints = [(f"step-{step}", is_finite) for step, is_finite in enumerate(finite)]
    names = [name for name, _ in checkpoints]
    stay = checkpoint.survivors(checkpoints, keep, f"step-{best}")
    assert stay <= set(names)
    assert set(names[-keep:]) <= stay
    assert (f"step-{best}" in stay) or best not in range(len(finite))
    assert any(finite[names.index(name)] for name in stay) == any(finite)
    assert len(stay) <= keep + 2
    if any(finite):
        last_finite = max(step for step, is_finite in enumerate(finite) if is_finite)
        assert f"step-{last_finite}" in stay
    # To rotate twice is to rotate once.
    rest = [each for each in checkpoints if each[0] in stay]
    assert checkpoint.survivors(rest, keep, f"step-{best}") == stay
