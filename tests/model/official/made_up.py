"""Checkpoints with the original's names and random values, in all the forms that its files have."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from tests.golden.original.made import random_state
from uniperceiver.model.official.variant import Choices
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.task import TEMPERATURES

WIDTH, HEADS, LAYERS, FFN, PATCH, GRID, EXPERTS, PROMPTS = 16, 2, 3, 24, 8, 2, 3, 2
WORDS, END, ANSWER = 600, 596, 599  # 512 bytes, CLIP's first 83 merges, five special tokens
EXPERT_LAYERS = (0, 2)
GIVEN = Choices(heads=HEADS)
IDS = {"end": END, "answer": ANSWER, "temperatures": TEMPERATURES}

State = dict[str, Tensor]


def original(
    *,
    moe: bool = False,
    prompts: Literal["none", "shared", "own"] = "none",
    classes: int = 0,
    labels: int = 0,
    parts: str = "FFN,SA",
    seed: int = 0,
) -> State:
    """A state dict under the names of the last version.

    Args:
        classes: of a linear head.
        labels: with a vector each.
        parts: what has experts.
    """
    size = {"dim": WIDTH, "layers": LAYERS, "ffn": FFN, "patch": PATCH, "image": GRID * PATCH, "vocab": WORDS}
    size |= {"moe": moe, "moe_location": "odd", "moe_type": parts, "experts": EXPERTS}
    size |= {"position_max_len": 64, "max_frames": 8}
    added = {"deep": PROMPTS, "targets": PROMPTS + 1 if prompts == "own" else 0, "classes": classes, "labels": labels}
    return random_state(size, {} if prompts == "none" else added, torch_stream(seed, "original"))


def older(state: Mapping[str, Tensor]) -> State:
    """The same under the names of the version before."""
    has_experts = any("deepspeed_experts" in name for name in state)
    attention = {"in_proj_weight": "qkv_proj.weight", "in_proj_bias": "qkv_proj.bias"}
    renamed = {}
    for name, tensor in state.items():
        name = name.replace("fused_encoder.", "encoder.").replace("loss_prepare.", "predictor.")
        name = name.replace(".gate.", ".deepspeed_moe.gate.").replace(".experts.", ".deepspeed_moe.experts.")
        for new, old in attention.items():
            name = name.replace(f"self_attn.{new}", f"self_attn.{old}")
        name = name.replace("self_attn.qkv_proj", "attention.self.qkv_proj")
        out = "self_attn.dense" if has_experts else "self_attn.out_proj"
        name = name.replace(out, "attention.output.dense")
        name = name.replace(".linear1.", ".ffn.dense.").replace(".linear2.", ".ffn.dense2.")
        name = name.replace(".norm1.", ".LayerNormModules.0.").replace(".norm2.", ".LayerNormModules.1.")
        name = name.replace(".gamma_1", ".attention_output.residual_scale")
        name = name.replace(".gamma_2", ".ffn_output.residual_scale")
        renamed[name] = tensor[None, None] if name.endswith("residual_scale") else tensor
    return renamed


def write(path: Path, state: Mapping[str, Tensor], key: str = "model") -> Path:
    """A file as the original writes it."""
    torch.save({key: dict(state), "iteration": 7}, path)
    return path


def without(state: Mapping[str, Tensor], part: str) -> State:
    """All tensors but those with that in their names."""
    return {name: each for name, each in state.items() if part not in name}
