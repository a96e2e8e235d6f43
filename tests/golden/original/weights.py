"""The weights of an original model under its own names, and its tokens: words, patches and the <SPE> prefix.

Shape suffixes: B sequences, N tokens, T frames, C channels, H W pixels, G patches of a frame, D width, P vectors of a
prompt.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Dense models name the same linears otherwise.
_IN_DENSE_MODELS = {"qkv_proj.weight": "in_proj_weight", "qkv_proj.bias": "in_proj_bias"}
_DENSE_OUT = {"dense.weight": "out_proj.weight", "dense.bias": "out_proj.bias"}


@dataclass(frozen=True, kw_only=True)
class Original:
    """A state dict in the original's names, and what its names do not tell."""

    state: Mapping[str, Tensor]
    heads: int
    answer: int  # id of <SPE>
    end: int  # id of the end token
    top_k: int = 2
    second_gate: bool = False  # whether the second FFN linear decides for itself
    add_type: bool = False  # whether patches get the visual type vector

    def __getitem__(self, name: str) -> Tensor:
        return self.state[name]

    def __contains__(self, name: str) -> bool:
        return name in self.state

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return sum(name.endswith(".gamma_1") for name in self.state)

    @property
    def is_moe(self) -> bool:
        """Whether it has the attention of MoE models, which plain layers of such models have too."""
        return any("self_attn.qkv_proj" in name for name in self.state)

    def of_layer(self, layer: int, name: str) -> Tensor:
        """A tensor of a layer; of attention under the name that MoE models have for it."""
        full = f"fused_encoder.layers.{layer}.{name}"
        if full not in self.state:
            part, _, rest = name.partition(".")
            full = f"fused_encoder.layers.{layer}.{part}.{(_IN_DENSE_MODELS | _DENSE_OUT)[rest]}"
        return self.state[full]


def original_of(
    state: Mapping[str, Tensor], told: Mapping[str, Any], dtype: torch.dtype = torch.float64, *, trained: bool = False
) -> Original:
    """The model of a folder's state dict and model.json; its own tensors, which ask for gradients if `trained`."""
    size, special = told["model"], told["special_tokens"]
    own = {name: each.detach().to(dtype).clone().requires_grad_(trained) for name, each in state.items()}
    return Original(
        state=own,
        heads=size["heads"],
        answer=special["<|spe|>"],
        end=special["<|endoftext|>"],
        top_k=size["top_k"],
        second_gate=size["moe"] and not size["ffn_share_gate"],
        add_type=size["add_type_embed"],
    )


def normed(x_BND: Tensor, weight_D: Tensor, bias_D: Tensor) -> Tensor:
    """LayerNorm with epsilon 1e-5."""
    centred = x_BND - x_BND.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * weight_D + bias_D


def _embedded(model: Original, x_BND: Tensor) -> Tensor:
    return normed(x_BND, model["token_embed.embeddings_norm.weight"], model["token_embed.embeddings_norm.bias"])


def _word_vectors(model: Original, ids_BN: Tensor) -> Tensor:
    word_BND = model["token_embed.embeddings.weight"][ids_BN]
    if "s_token_bias" not in model:
        return word_BND
    return word_BND + (ids_BN == model.answer).to(word_BND)[:, :, None] * model["s_token_bias"]


def prefix(model: Original, sequences: int) -> Tensor:
    """The <SPE> in front of every sequence, (B, 1, D): no position, no type."""
    return _embedded(model, _word_vectors(model, torch.full((sequences, 1), model.answer)))


def words(model: Original, ids_BN: Tensor, position_N: Tensor | None = None) -> Tensor:
    """Tokens of texts, (B, N, D); positions are 0..N-1 unless given."""
    position_N = torch.arange(ids_BN.shape[1]) if position_N is None else position_N
    position_ND = model["token_embed.embeddings_pos.position_embeddings.weight"][position_N]
    kind_D = model["token_embed.embeddings_token_type.weight"][0]
    return _embedded(model, _word_vectors(model, ids_BN) + position_ND + kind_D)


def patches(model: Original, clip_BTCHW: Tensor) -> Tensor:
    """Tokens of clips, (B, T * G, D): frame by frame, then row by row."""
    weight, bias_D = model["video_embed.embeddings.weight"], model["video_embed.embeddings.bias"]
    batch, frames = clip_BTCHW.shape[:2]
    pixels = clip_BTCHW.flatten(0, 1).to(weight)
    x_BTGD = F.conv2d(pixels, weight, bias_D, stride=weight.shape[-1]).flatten(2).mT.unflatten(0, (batch, frames))
    x_BTGD = x_BTGD + model["video_embed.embeddings_st_pos.spatial_pos_embed.weight"]
    x_BTGD = x_BTGD + model["video_embed.embeddings_st_pos.temporal_pos_embed.weight"][:frames, None]
    if model.add_type:
        x_BTGD = x_BTGD + model["video_embed.embeddings_type.weight"][0]
    return _embedded(model, x_BTGD.flatten(1, 2))


def deep_prompt(model: Original, layer: int, side: str) -> Tensor | None:
    """A layer's vectors for inputs or targets, (P, D), before its first norm; None if it has none."""
    name = f"fused_encoder.layers.{layer}.deep_prompt_embedding"
    own = f"{name}.target_embedding.weight"
    found = own if side == "target" and own in model else f"{name}.embedding.weight"
    return model.state.get(found)
