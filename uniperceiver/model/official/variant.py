"""Which model a checkpoint of the original release is: read off names and shapes; what they cannot tell is chosen."""

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
_LAYERS = {192: 12, 384: 12, 768: 12, 1024: 24}  # of every published model of that width


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What names and shapes cannot tell; the defaults are right for every published model."""

    heads: int | None = None  # None: width / 64
    layers: int | None = None  # None: as many as there are, where published models of that width have as many
    positions: Literal["auto", "sincos", "table"] = "auto"  # auto: sincos where the stored table is just that
    reference_grid: float | None = None  # None: 10, or the grid of the stored table where that is what it spans
    ffn_gates: Literal["shared", "own"] = "shared"  # whether the second FFN linear takes the decision of the first
    # Whether the visual type vector is in the patch bias already; auto: it is, but in files of the older version.
    type_vector: Literal["auto", "folded", "add"] = "auto"
    layout: Literal["paper", "release"] = "release"  # of the attribute bits; always that of the release


def architecture_of(
    state: Mapping[str, Tensor], choices: Choices, *, end: int, answer: int, where: str
) -> Architecture:
    """The architecture of an original state dict, under the names of its last version.

    Raises:
        UserError: a tensor that every model has is missing or has a shape that cannot be; what is given cannot be; the
            number of heads must be choices.
    """
    _check_choices(choices)
    vocabulary, width = _shape(state, "token_embed.embeddings.weight", 2, where)
    *_, patch = _shape(state, "video_embed.embeddings.weight", 4, where)
    table = _shape(state, "video_embed.embeddings_st_pos.spatial_pos_embed.weight", 2, where)
    grid = math.isqrt(table[0])
    if grid * grid != table[0]:
        raise UserError(f"{where}: {table[0]} spatial positions are no square; the original has square pictures only")
    spatial, reference_grid = _positions(state, choices, grid)
    moe = _experts(state, choices, where)
    return Architecture(
        width=width,
        layers=_layers(state, width, choices, where),
        heads=_heads(width, choices, where),
        ffn=_hidden(state, where),
        patch=patch,
        vocabulary=vocabulary,
        end=end,
        answer=answer,
        max_text=_shape(state, "token_embed.embeddings_pos.position_embeddings.weight", 2, where)[0],
        max_frames=_shape(state, "video_embed.embeddings_st_pos.temporal_pos_embed.weight", 2, where)[0],
        spatial=spatial,
        reference_grid=reference_grid,
        table_grid=grid,
        literal_specials=True,
        random_still_row=True,
        moe=moe,
        prompts=_prompts(state),
    )


def add_type_vector(
    state: dict[str, Tensor], choices: Choices, *, older: bool, where: str
) -> Literal["folded", "added", "none"]:
    """Add the visual type vector to the patch bias where it is not in it; it is the same for every visual token.

    The original's older version always added it to the tokens. Its authors put it into the bias of the files that they
    published, and their last version does not add it.

    Raises:
        UserError: there is no such vector, or no bias that it fits.
    """
    name = "video_embed.embeddings.bias"
    if TYPE_VECTOR not in state:
        if choices.type_vector == "add":
            raise UserError(f"{where}: has no {TYPE_VECTOR} to add; leave out --type-vector add")
        return "none"
    if choices.type_vector == "folded" or (choices.type_vector == "auto" and not older):
        return "folded"
    bias_D, vector_1D = state.get(name), state[TYPE_VECTOR]
    if bias_D is None or vector_1D.shape != (1, *bias_D.shape):
        raise UserError(f"{where}: {TYPE_VECTOR!r} does not fit {name!r}; give a whole checkpoint of the original")
    state[name] = bias_D.float() + vector_1D[0].float()
    return "added"


def _check_choices(choices: Choices) -> None:
    """Refuse what cannot be, whatever the file holds."""
    if choices.layout != "release":
        raise UserError(
            f"--layout {choices.layout}: the original release numbers the attribute bits in its own way, and its "
            "weights know no other; leave it out"
        )
    if choices.heads is not None and choices.heads < 1:
        raise UserError(f"--heads {choices.heads}: is no number of attention heads; give 1 or more")
    if choices.reference_grid is not None and not 0 < choices.reference_grid < math.inf:
        raise UserError(f"--reference-grid {choices.reference_grid}: give what coordinates a picture spans, such as 10")
    if choices.reference_grid is not None and choices.positions == "table":
        raise UserError("--reference-grid: has no effect with --positions table; leave out one of them")


def _shape(state: Mapping[str, Tensor], name: str, ndim: int, where: str) -> tuple[int, ...]:
    if name not in state:
        raise UserError(f"{where}: {name!r} is missing; give a whole checkpoint of the original release")
    if state[name].ndim != ndim:
        raise UserError(f"{where}: {name!r} has the shape {tuple(state[name].shape)}, expected {ndim} dimensions")
    return tuple(state[name].shape)


def _layers(state: Mapping[str, Tensor], width: int, choices: Choices, where: str) -> int:
    """How many layers there are; a gap is found, and where published models have more of them, that too."""
    numbers = {int(match[1]) for name in state if (match := re.match(r"fused_encoder\.layers\.(\d+)\.", name))}
    if not numbers:
        raise UserError(f"{where}: has no layers (fused_encoder.layers.*); give a checkpoint of the original release")
    missing = set(range(max(numbers))) - numbers
    if missing:
        raise UserError(f"{where}: layer {min(missing)} is missing: is it one of several files?")
    expected = choices.layers or _LAYERS.get(width, len(numbers))
    if len(numbers) != expected:
        reason = f"--layers {expected}" if choices.layers else f"every published model of width {width} has {expected}"
        mend = f"if it is whole, say --layers {len(numbers)}"
        raise UserError(f"{where}: has {len(numbers)} layers, {reason}: is it one of several files? {mend}")
    return len(numbers)


def _heads(width: int, choices: Choices, where: str) -> int:
    if choices.heads is None and width % _HEAD_WIDTH:
        raise UserError(f"{where}: width {width} is of no published model; say how many attention heads: --heads N")
    heads = width // _HEAD_WIDTH if choices.heads is None else choices.heads
    if width % heads:
        raise UserError(f"--heads {heads}: does not divide the width {width}")
    return heads


def _hidden(state: Mapping[str, Tensor], where: str) -> int:
    for name, tensor in state.items():
        if re.search(r"\.0\.linear1\.(experts\.deepspeed_experts\.\d+\.)?weight$", name):
            return tensor.shape[0]
    raise UserError(f"{where}: layer 0 has no FFN (linear1); give a whole checkpoint of the original release")


def _positions(state: Mapping[str, Tensor], choices: Choices, grid: int) -> tuple[Literal["sincos", "table"], float]:
    """How positions are had, and the coordinates that a picture spans: as chosen, or else as the stored table does."""
    # The original scales a picture of any size to 10, or leaves one step per patch.
    spans = [REFERENCE_GRID, float(grid)] if choices.reference_grid is None else [choices.reference_grid]
    if choices.positions == "table":
        return "table", REFERENCE_GRID
    table_GD = state["video_embed.embeddings_st_pos.spatial_pos_embed.weight"].float()
    place_G3 = grid_coordinates(1, grid, grid, table_GD.device)
    for span in spans:
        row_G, column_G = (place_G3[:, axis] * (span / grid) for axis in (1, 2))
        if torch.allclose(table_GD, sincos_2d(row_G, column_G, table_GD.shape[1]), atol=1e-3):
            return "sincos", span
    return ("table", REFERENCE_GRID) if choices.positions == "auto" else ("sincos", spans[0])


def _experts(state: Mapping[str, Tensor], choices: Choices, where: str) -> MoE | None:
    pattern = r"fused_encoder\.layers\.(\d+)\.(self_attn\.qkv_proj|linear1)\.experts\.deepspeed_experts\.(\d+)\.weight"
    matches = [match for name in state if (match := re.fullmatch(pattern, name))]
    if not matches:
        if any(".gate.wg." in name for name in state):
            raise UserError(f"{where}: has gates but no experts, which lie in files of their own; give one with all")
        if choices.ffn_gates == "own":
            raise UserError(f"{where}: has no experts, so no gates; leave out --ffn-gates own")
        return None
    experts = {int(match[3]) for match in matches}
    if experts != set(range(len(experts))):
        raise UserError(
            f"{where}: expert {min(set(range(max(experts))) - experts)} is missing; give a whole checkpoint"
        )
    attention, ffn = (
        tuple(sorted({int(match[1]) for match in matches if (match[2] == "linear1") == is_ffn}))
        for is_ffn in (False, True)
    )
    return MoE(
        condition="attribute",
        layout=choices.layout,
        experts=len(experts),
        k=2,
        attention_layers=attention,
        ffn_layers=ffn,
        ffn_gates=1 if choices.ffn_gates == "shared" else 2,
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
