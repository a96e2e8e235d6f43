"""Files of the original release: all of their forms are read, and nothing in them is ever executed."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.model.official.made_up import State, older, original, write
from tests.small_run import same_tensors
from uniperceiver.errors import UserError
from uniperceiver.model.official.reading import read_original

MAPS = Path("/proc/self/maps")
STATES = {"dense": original(), "experts": original(moe=True), "prompts": original(prompts="own", classes=2)}


def as_safetensors(path: Path, state: State) -> Path:
    save_file({name: each.clone() for name, each in state.items()}, path)
    return path


def as_first_torch(path: Path, state: State) -> Path:
    """The format of torch before 1.6."""
    torch.save({"model": state}, path, _use_new_zipfile_serialization=False)
    return path


def bare(path: Path, state: State) -> Path:
    torch.save(state, path)
    return path


FORMS: dict[str, tuple[Callable[[Path, State], Path], str]] = {
    "native": (write, "model.pth"),
    "DeepSpeed": (lambda path, state: write(path, state, "module"), "mp_rank_00_model_states.pt"),
    "without a wrapper": (bare, "model.pth"),
    "safetensors": (as_safetensors, "model.safetensors"),
    "torch before 1.6": (as_first_torch, "model.pth"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", STATES)
def test_every_form_is_read(kind: str, form: str, tmp_path: Path) -> None:
    save, name = FORMS[form]
    found = read_original(save(tmp_path / name, STATES[kind]))
    assert same_tensors(found.tensors, STATES[kind])
    assert not found.older


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["dense", "experts"])
def test_names_of_the_older_version_are_translated(kind: str, form: str, tmp_path: Path) -> None:
    save, name = FORMS[form]
    before = older(STATES[kind])
    assert before["encoder.layers.0.attention_output.residual_scale"].shape == (1, 1, 16)
    found = read_original(save(tmp_path / name, before))
    assert found.older
    expected = {
        # Dense models have two names for the same attention; both are known.
        name.replace("in_proj_", "qkv_proj.").replace("out_proj", "dense"): each
        for name, each in STATES[kind].items()
    }
    assert same_tensors(found.tensors, expected)


def test_the_older_names_of_the_description(tmp_path: Path) -> None:
    """Written out once, since `older` and the reader could be wrong alike."""
    names = {
        "encoder.layers.2.attention.self.qkv_proj.weight": "fused_encoder.layers.2.self_attn.qkv_proj.weight",
        "encoder.layers.2.attention.output.dense.bias": "fused_encoder.layers.2.self_attn.dense.bias",
        "encoder.layers.2.ffn.dense.weight": "fused_encoder.layers.2.linear1.weight",
        "encoder.layers.2.ffn.dense2.weight": "fused_encoder.layers.2.linear2.weight",
        "encoder.layers.2.attention_output.residual_scale": "fused_encoder.layers.2.gamma_1",
        "encoder.layers.2.ffn_output.residual_scale": "fused_encoder.layers.2.gamma_2",
        "encoder.layers.2.LayerNormModules.0.bias": "fused_encoder.layers.2.norm1.bias",
        "encoder.layers.2.LayerNormModules.1.weight": "fused_encoder.layers.2.norm2.weight",
        "encoder.layers.0.ffn.dense2.deepspeed_moe.experts.deepspeed_experts.3.bias": (
            "fused_encoder.layers.0.linear2.experts.deepspeed_experts.3.bias"
        ),
        "encoder.layers.0.attention.self.qkv_proj.deepspeed_moe.gate.wg.weight": (
            "fused_encoder.layers.0.self_attn.qkv_proj.gate.wg.weight"
        ),
        "predictor.logit_scale_caption": "loss_prepare.logit_scale_caption",
        "token_embed.embeddings.weight": "token_embed.embeddings.weight",
    }
    found = read_original(write(tmp_path / "a.pt", {name: torch.ones(1, 1, 2) for name in names}, "module"))
    assert list(found.tensors) == list(names.values())
    assert found.tensors["fused_encoder.layers.2.gamma_1"].shape == (2,)


def test_names_of_both_versions_together_are_refused(tmp_path: Path) -> None:
    mixed = {"predictor.proj.bias": torch.ones(2), "loss_prepare.proj.bias": torch.ones(2)}
    refused(write(tmp_path / "a.pth", mixed), "the same tensors under names of two versions")


def refused(path: Path, *parts: str) -> str:
    """The one line about a file."""
    with pytest.raises(UserError) as caught:
        read_original(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    assert all(part in line for part in parts), line
    return line


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    for save, name in FORMS.values():
        whole = save(tmp_path / name, STATES["dense"]).read_bytes()
        path = tmp_path / f"cut-{name}"
        for part in (0, 1, 7, 8, 100, len(whole) // 3, len(whole) // 2, len(whole) - 100, len(whole) - 1):
            path.write_bytes(whole[:part])
            refused(path, "again")


def test_a_flipped_byte_is_noticed_or_does_no_harm(tmp_path: Path) -> None:
    whole = write(tmp_path / "model.pth", STATES["dense"]).read_bytes()
    draw, path, noticed = random.Random(0), tmp_path / "flipped.pth", 0
    for _ in range(120):
        place = draw.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
        try:
            found = read_original(path)
        except UserError:
            noticed += 1
        else:
            assert same_tensors(found.tensors, STATES["dense"])
    assert noticed > 80


def test_a_flipped_bit_of_a_weight_names_its_part(tmp_path: Path) -> None:
    path = write(tmp_path / "model.pth", STATES["dense"])
    whole = bytearray(path.read_bytes())
    place = whole.find(STATES["dense"]["loss_prepare.proj.weight"].numpy().tobytes())
    assert place > 0
    whole[place] ^= 1
    path.write_bytes(whole)
    refused(path, "damaged: the check sum of its part ", "/data/")


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"state_dict": {"a": torch.ones(1)}, "epoch": 3}, "neither `model` nor `module`, but epoch, state_dict"),
        ({}, "but nothing"),
        ({"optimizer_state_dict": {}}, "of a DeepSpeed checkpoint give the file mp_rank_00_model_states.pt"),
        ([torch.ones(1)], "holds a list, not the tensors of a model"),
        (torch.ones(1), "holds a Tensor, not"),
        ({"model": {"a": torch.ones(1), "b": 3}}, "'b' is a int, not a named, dense tensor"),
        ({"model": {7: torch.ones(1)}}, "7 is a Tensor, not a named, dense tensor"),
        ({"model": {"a": torch.ones(2, 2).to_sparse()}}, "'a' is a Tensor, not a named, dense tensor"),
    ],
)
def test_a_torch_file_of_something_else(contents: Any, message: str, tmp_path: Path) -> None:
    torch.save(contents, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", message)


def test_other_files_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "absent.pth", "no such file; give a .pth, .pt or .safetensors file")
    refused(tmp_path, "is a folder; give a file, of a DeepSpeed checkpoint mp_rank_00_model_states.pt")
    for name in ("a.pth", "a.safetensors"):
        for text in ("", "hello\n", "<!DOCTYPE html><p>Quota exceeded</p>" * 50):
            (tmp_path / name).write_text(text)
            refused(tmp_path / name, "fetch it again")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    refused(
        tmp_path / "model.safetensors.index.json", "is JSON, such as an index of files, and holds no weights; give a"
    )
    torch.save({"model": STATES["dense"]}, tmp_path / "named.safetensors")
    refused(tmp_path / "named.safetensors", "damaged")


class Hostile:
    """An object that leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["beside", "among", "alone"])
def test_nothing_is_executed(place: str, zipped: bool, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    hostile = Hostile(mark)
    contents: Any = {
        "beside": {"model": STATES["dense"], "args": hostile},
        "among": {"model": {**STATES["dense"], "x": hostile}},
        "alone": hostile,
    }[place]
    torch.save(contents, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    refused(tmp_path / "a.pth", "which would have to be executed; it is refused")
    assert not mark.exists()
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert mark.exists()  # so the file would have done it


@pytest.mark.skipif(not MAPS.exists(), reason="only Linux tells which files are mapped")
@pytest.mark.parametrize("form", ["native", "DeepSpeed", "safetensors"])
def test_tensors_are_mapped_from_the_file(form: str, tmp_path: Path) -> None:
    save, name = FORMS[form]
    path = save(tmp_path / name, STATES["dense"])
    found = read_original(path)
    assert str(path) in MAPS.read_text()
    del found
    assert str(path) not in MAPS.read_text()
