"""Which model a checkpoint of the original release is: read off names and shapes; what they cannot tell is given."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture, PromptShape
from uniperceiver.model.official.names import TYPE_VECTOR
from uniperceiver.moe.settings import MoE
from uniperceiver.tokenizers.vision import grid_coordinates, sincos_2d

REFERENCE_GRID = 10.0  # coordinates that every picture spans: 160 pixels in patches of 16
_HEAD_WIDTH = 64  # of every published model


@dataclass(frozen=True, kw_only=True)
class Given:
    """What names and shapes cannot tell; the defaults are right for every published model."""

    heads: int | None = None  # None: width / 64
    positions: Literal["auto", "sincos", "table"] = "auto"  # auto: sincos where the stored table is just that
    reference_grid: float = REFERENCE_GRID
    ffn_gates: Literal["shared", "own"] = "shared"  # whether the second FFN linear takes the decision of the first
    type_vector: Literal["folded", "add"] = "folded"  # whether the visual type vector is in the patch bias already
    layout: Literal["paper", "release"] = "release"  # of the attribute bits


def architecture_of(state: Mapping[str, Tensor], given: Given, *, end: int, answer: int, where: str) -> Architecture:
    """The architecture of an original state dict, under the names of its last version.

    Raises:
        UserError: a tensor that every model has is missing or has a shape that cannot be; the number of heads must be
            given.
    """
    vocabulary, width = _shape(state, "token_embed.embeddings.weight", 2, where)
    *_, patch = _shape(state, "video_embed.embeddings.weight", 4, where)
    table = _shape(state, "video_embed.embeddings_st_pos.spatial_pos_embed.weight", 2, where)
    layers = _layers(state, where)
    if layers != set(range(len(layers))):
        missing = next(iter(sorted(set(range(max(layers))) - layers)))
        raise UserError(f"{where}: layer {missing} is missing: is it one of several files?")
    grid = math.isqrt(table[0])
    if grid * grid != table[0]:
        raise UserError(f"{where}: {table[0]} spatial positions are no square; the original has square pictures only")
    return Architecture(
        width=width,
        layers=len(layers),
        heads=_heads(width, given, where),
        ffn=_hidden(state, where),
        patch=patch,
        vocabulary=vocabulary,
        end=end,
        answer=answer,
        max_text=_shape(state, "token_embed.embeddings_pos.position_embeddings.weight", 2, where)[0],
        max_frames=_shape(state, "video_embed.embeddings_st_pos.temporal_pos_embed.weight", 2, where)[0],
        spatial=_positions(state, given, grid),
        reference_grid=given.reference_grid,
        table_grid=grid,
        literal_specials=True,
        random_still_row=True,
        moe=_experts(state, given, where),
        prompts=_prompts(state),
    )


def fold_type_vector(state: dict[str, Tensor], where: str) -> None:
    """Add the visual type vector to the patch bias, which is the same for every visual token.

    Raises:
        UserError: there is no such vector.
    """
    if TYPE_VECTOR not in state:
        raise UserError(f"{where}: has no {TYPE_VECTOR} to add; leave out --type-vector add")
    state["video_embed.embeddings.bias"] = state["video_embed.embeddings.bias"] + state[TYPE_VECTOR][0]


def _shape(state: Mapping[str, Tensor], name: str, ndim: int, where: str) -> tuple[int, ...]:
    if name not in state:
        raise UserError(f"{where}: {name!r} is missing; give a whole checkpoint of the original release")
    if state[name].ndim != ndim:
        raise UserError(f"{where}: {name!r} has the shape {tuple(state[name].shape)}, expected {ndim} dimensions")
    return tuple(state[name].shape)


def _layers(state: Mapping[str, Tensor], where: str) -> set[int]:
    found = {int(match[1]) for name in state if (match := re.match(r"fused_encoder\.layers\.(\d+)\.", name))}
    if not found:
        raise UserError(f"{where}: has no layers (fused_encoder.layers.*); give a checkpoint of the original release")
    return found


def _heads(width: int, given: Given, where: str) -> int:
    if given.heads is None and width % _HEAD_WIDTH:
        raise UserError(f"{where}: width {width} is of no published model; say how many attention heads: --heads N")
    heads = given.heads or width // _HEAD_WIDTH
    if width % heads:
        raise UserError(f"--heads {heads}: does not divide the width {width}")
    return heads


def _hidden(state: Mapping[str, Tensor], where: str) -> int:
    for name, each in state.items():
        if re.search(r"\.0\.linear1\.(experts\.deepspeed_experts\.\d+\.)?weight$", name):
            return each.shape[0]
    raise UserError(f"{where}: layer 0 has no FFN (linear1); give a whole checkpoint of the original release")


def _positions(state: Mapping[str, Tensor], given: Given, grid: int) -> Literal["sincos", "table"]:
    if given.positions != "auto":
        return given.positions
    table = state["video_embed.embeddings_st_pos.spatial_pos_embed.weight"].float()
    place = grid_coordinates(1, grid, grid, table.device) * (given.reference_grid / grid)
    computed = sincos_2d(place[:, 1], place[:, 2], table.shape[1])
    return "sincos" if torch.allclose(table, computed, atol=1e-3) else "table"


def _experts(state: Mapping[str, Tensor], given: Given, where: str) -> MoE | None:
    pattern = r"fused_encoder\.layers\.(\d+)\.(self_attn\.qkv_proj|linear1)\.experts\.deepspeed_experts\.(\d+)\.weight"
    found = [match for name in state if (match := re.fullmatch(pattern, name))]
    if not found:
        return None
    experts = {int(match[3]) for match in found}
    if experts != set(range(len(experts))):
        raise UserError(
            f"{where}: expert {min(set(range(max(experts))) - experts)} is missing; give a whole checkpoint"
        )
    attention, ffn = (
        tuple(sorted({int(match[1]) for match in found if (match[2] == "linear1") == is_ffn}))
        for is_ffn in (False, True)
    )
    return MoE(
        condition="attribute",
        layout=given.layout,
        experts=len(experts),
        k=2,
        attention_layers=attention,
        ffn_layers=ffn,
        ffn_gates=1 if given.ffn_gates == "shared" else 2,
    )


def _prompts(state: Mapping[str, Tensor]) -> PromptShape | None:
    deep = "fused_encoder.layers.0.deep_prompt_embedding"
    vectors, candidates = state.get(f"{deep}.embedding.weight"), state.get(f"{deep}.target_embedding.weight")
    classes, labels = state.get("fc_prompt.weight"), state.get("prompt_embed.target_embedding")
    if vectors is None and classes is None and labels is None and "s_token_bias" not in state:
        return None
    return PromptShape(
        vectors=0 if vectors is None else vectors.shape[0],
        candidates=0 if candidates is None else candidates.shape[0],
        classes=0 if classes is None else classes.shape[0],
        labels=0 if labels is None else labels.shape[0],
    )
