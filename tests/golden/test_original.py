"""The plain restatement of the original is right where the original's recordings are, and renews our own set."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.golden.cases import case_names, model_folders
from tests.golden.make_original import GOLDEN as SMALL
from tests.golden.make_original import make_all
from tests.golden.original.recording import computed, trained
from tests.golden.original.tasks import caption_mask
from tests.golden.original.weights import original_of
from tests.shared import GOLDEN, needs_golden

# What a model with experts shows, a dense one need not show again.
SHOWN = set(case_names(GOLDEN / "moe_odd"))
CASES = [
    (folder, name)
    for folder in model_folders(GOLDEN)
    for name in case_names(folder)
    if folder.name != "dense" or name not in SHOWN
]


def error(ours: Tensor, theirs: Tensor) -> float:
    """max|ours - theirs| / max|theirs|."""
    return float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max().clamp(min=1e-30))


@needs_golden
@pytest.mark.parametrize(
    ("folder", "name"), CASES or [(GOLDEN, "none")], ids=[f"{folder.name}/{name}" for folder, name in CASES] or ["none"]
)
def test_what_the_original_recorded(folder: Path, name: str) -> None:
    told, info = (json.loads((folder / f"{each}.json").read_text()) for each in ("model", name))
    tensors, is_train = load_file(folder / f"{name}.safetensors"), name.endswith("_train")
    model = original_of(load_file(folder / "state_dict.safetensors"), told, trained=is_train)
    if not is_train:
        found = computed(model, told, info, tensors)
    else:
        found, terms, gradients = trained(model, told, info, tensors)
        for key, term in terms.items():
            assert float(term.detach()) == pytest.approx(info["losses"][key], rel=1e-5)
        compare_gradients(gradients, info["grad_l2norm_and_sum"], tensors)
    compared = [key for key in tensors if key in found]
    assert {key for key in tensors if not key.startswith(("batch.", "grad."))} - set(compared) <= {"targets"}
    for key in compared:
        ours, theirs = valid(key, found[key].detach(), tensors), valid(key, tensors[key], tensors)
        assert ours.shape == theirs.shape, key
        assert error(ours, theirs) <= 4e-6, key


def valid(key: str, x: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """An activation where it is no padding."""
    mask_BN = tensors.get(f"{key.split('.')[0]}.invalid_mask")
    return x[~mask_BN.bool()] if mask_BN is not None and x.shape[:2] == mask_BN.shape and x.ndim == 3 else x


def compare_gradients(ours: dict[str, Tensor | None], recorded: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Which parameters have a gradient, its norm, and where recorded all of it."""
    assert ours.keys() == recorded.keys()
    for name, moments in recorded.items():
        gradient = ours[name]
        assert (gradient is None) == (moments is None), name
        if gradient is not None and moments is not None and moments[0] > 1e-7:
            assert float(gradient.norm()) == pytest.approx(moments[0], rel=1e-3), name
            assert error(gradient, tensors.get(f"grad.{name}", gradient)) <= 1e-3, name


def test_our_own_set_is_what_its_command_writes(tmp_path: Path) -> None:
    make_all(tmp_path)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert made == sorted(path.relative_to(SMALL) for path in SMALL.rglob("*") if path.is_file())
    for path in made:
        if path.suffix != ".safetensors":
            continue
        ours, kept = load_file(tmp_path / path), load_file(SMALL / path)
        assert ours.keys() == kept.keys()
        for name, tensor in kept.items():
            assert torch.allclose(ours[name], tensor, rtol=1e-5, atol=1e-6), f"{path}: {name}"


def test_the_initial_weights_of_the_steps_are_copies() -> None:
    tensors = load_file(SMALL / "train_steps" / "train_steps.safetensors")
    moved = {
        name
        for name in tensors
        if name.startswith("final.") and not torch.equal(tensors[name], tensors[f"init.{name[6:]}"])
    }
    assert "final.token_embed.embeddings.weight" in moved
    assert "final.video_embed.embeddings_st_pos.spatial_pos_embed.weight" not in moved  # frozen


def test_gates_of_our_own_set_are_decided_clearly() -> None:
    """Otherwise another machine could choose other experts, and numbers would differ for no fault."""
    choices = set()
    for path in SMALL.glob("*/*.safetensors"):
        for name, tensor in load_file(path).items():
            if name.startswith("enc") and name.endswith(".weight") and ".gate." in name:
                assert (tensor[:, 0] - tensor[:, 1]).min() > 1e-3, f"{path}: {name}"
            if name.startswith("enc") and name.endswith(".index"):
                choices |= {tuple(row) for row in tensor.tolist()}
    assert len(choices) > 6


def test_texts_of_our_own_set_end_early() -> None:
    for path in SMALL.glob("*/*_eos_lenpen.safetensors"):
        ids, end = load_file(path)["ids"], json.loads(path.with_suffix(".json").read_text())["eos_token_id"]
        assert set((ids == end).any(dim=1).tolist()) == {True, False}


def test_the_mask_of_captions() -> None:
    # Prefix of 2, two words, two queries; rows look at columns.
    allowed = ["110000", "110000", "111000", "111100", "110010", "111001"]
    assert (~caption_mask(2, 2)).int().tolist() == [[int(each) for each in row] for row in allowed]
