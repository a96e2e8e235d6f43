"""Names of the original release's dense checkpoints, and where their tensors go in our model."""

import re
from collections.abc import Mapping

from torch import Tensor

# Original name -> our name; the shape is changed where `_reshape` says so.
_NAMES = {
    "token_embed.embeddings.weight": "tokenizer.words.words",
    "token_embed.embeddings_pos.position_embeddings.weight": "tokenizer.words.positions",
    "token_embed.embeddings_token_type.weight": "tokenizer.words.kind",
    "token_embed.embeddings_norm.weight": "tokenizer.norm.weight",
    "token_embed.embeddings_norm.bias": "tokenizer.norm.bias",
    "video_embed.embeddings.weight": "tokenizer.patches.project.weight",
    "video_embed.embeddings.bias": "tokenizer.patches.project.bias",
    "video_embed.embeddings_st_pos.spatial_pos_embed.weight": "tokenizer.patches.spatial.table",
    "video_embed.embeddings_st_pos.temporal_pos_embed.weight": "tokenizer.patches.temporal",
    "loss_prepare.ln_post.weight": "head.norm.weight",
    "loss_prepare.ln_post.bias": "head.norm.bias",
    "loss_prepare.proj.weight": "head.linear.weight",
    "loss_prepare.proj.bias": "head.linear.bias",
}
_LAYER_NAMES = {
    "gamma_1": "scale1",
    "gamma_2": "scale2",
    "self_attn.in_proj_weight": "attention.qkv.weight",
    "self_attn.in_proj_bias": "attention.qkv.bias",
    "self_attn.out_proj.weight": "attention.out.weight",
    "self_attn.out_proj.bias": "attention.out.bias",
    "linear1.weight": "ffn.linear1.weight",
    "linear1.bias": "ffn.linear1.bias",
    "linear2.weight": "ffn.linear2.weight",
    "linear2.bias": "ffn.linear2.bias",
    "norm1.weight": "norm1.weight",
    "norm1.bias": "norm1.bias",
    "norm2.weight": "norm2.weight",
    "norm2.bias": "norm2.bias",
}
# Tensors that our model does not need, with the reason.
UNUSED = {
    "video_embed.embeddings_norm.weight": "the same tensor as token_embed.embeddings_norm.weight",
    "video_embed.embeddings_norm.bias": "the same tensor as token_embed.embeddings_norm.bias",
    "video_embed.embeddings_type.weight": "never added by the released configurations (ADD_TYPE_EMBED: False)",
}


def our_name(original: str) -> str | None:
    """Our name of an original parameter; None if it is not used."""
    if layer := re.fullmatch(r"fused_encoder\.layers\.(\d+)\.(.+)", original):
        return f"encoder.blocks.{layer[1]}.{_LAYER_NAMES[layer[2]]}" if layer[2] in _LAYER_NAMES else None
    if temperature := re.fullmatch(r"loss_prepare\.logit_scale_(\w+)", original):
        return f"temperatures.{temperature[1]}"
    return _NAMES.get(original)


def our_shape(original: str, tensor: Tensor) -> Tensor:
    """An original parameter (or its gradient) in the shape that ours has."""
    if original == "video_embed.embeddings.weight":
        return tensor.flatten(1)  # (D, 3, P, P) convolution -> (D, 3 * P * P) linear on flattened patches
    if original == "token_embed.embeddings_token_type.weight":
        return tensor[0]  # row 1 is never used
    return tensor


def translate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An original dense state dict under our names and shapes; what we do not need is left out."""
    named = ((our_name(original), original) for original in state)
    return {name: our_shape(original, state[original]) for name, original in named if name is not None}
