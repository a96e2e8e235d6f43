"""Names of the original release's parameters, and where their tensors go in our model.

Shape suffixes: D width, P a patch's side, K classes.
"""

import re
from collections.abc import Mapping

from torch import Tensor

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
    "s_token_bias": "prompts.answer",
    "similarity_weight": "prompts.similarity",
    "fc_prompt.weight": "prompts.classes.weight",
    "fc_prompt.bias": "prompts.classes.bias",
    "prompt_embed.target_embedding": "prompts.labels",
}
_LAYER_NAMES = {
    "gamma_1": "scale1",
    "gamma_2": "scale2",
    "self_attn.in_proj_weight": "attention.qkv.weight",
    "self_attn.in_proj_bias": "attention.qkv.bias",
    "self_attn.out_proj.weight": "attention.out.weight",
    "self_attn.out_proj.bias": "attention.out.bias",
    "self_attn.qkv_proj.weight": "attention.qkv.weight",  # MoE models name attention otherwise, in plain layers too
    "self_attn.qkv_proj.bias": "attention.qkv.bias",
    "self_attn.dense.weight": "attention.out.weight",
    "self_attn.dense.bias": "attention.out.bias",
    "linear1.weight": "ffn.linear1.weight",
    "linear1.bias": "ffn.linear1.bias",
    "linear2.weight": "ffn.linear2.weight",
    "linear2.bias": "ffn.linear2.bias",
    "norm1.weight": "norm1.weight",
    "norm1.bias": "norm1.bias",
    "norm2.weight": "norm2.weight",
    "norm2.bias": "norm2.bias",
}
_PROMPTS = {
    "deep_prompt_embedding.embedding.weight": "prompts.inputs.{}",
    "deep_prompt_embedding.target_embedding.weight": "prompts.candidates.{}",
}
_EXPERT_LINEARS = {
    "self_attn.qkv_proj": "attention.qkv",
    "self_attn.dense": "attention.out",
    "linear1": "ffn.linear1",
    "linear2": "ffn.linear2",
}
_GATES = {"self_attn.qkv_proj": "attention.router.gates.0", "linear1": "ffn.router.gates.0"}
_SECOND_FFN_GATE = {"linear2": "ffn.router.gates.1"}
_GATE_PARTS = {"tag_transform.0": "embed", "tag_transform.1": "norm", "wg": "linear"}
_LAYER = re.compile(r"fused_encoder\.layers\.(\d+)\.(.+)")
_EXPERT = re.compile(r"(.+)\.experts\.deepspeed_experts\.(\d+)\.(weight|bias)")
_GATE = re.compile(r"(.+)\.gate\.(tag_transform\.[01]|wg)\.(weight|bias)")

# One tensor under two names: the second of them, and the first, which is used.
_TWINS = {
    "video_embed.embeddings_norm.weight": "token_embed.embeddings_norm.weight",
    "video_embed.embeddings_norm.bias": "token_embed.embeddings_norm.bias",
    "token_embed.s_token_bias": "s_token_bias",
}
# Tensors that our model does not need, with the reason; patterns of their names.
_UNUSED = {
    r"video_embed\.embeddings_norm\.(weight|bias)": "the same tensor as token_embed.embeddings_norm",
    r"token_embed\.s_token_bias": "the same tensor as s_token_bias",
    r".*\.self_attn\.dense\.gate\..*": "a gate that is never used: the attention output takes the decision of qkv",
    r".*\.linear2\.gate\..*": "a gate that is not used: the decision of the first FFN linear holds",
    r"loss_prepare\.loss_.*|.*\.num_batches_tracked|.*\.(queue|queue_ptr)(_.*)?": "a buffer of the losses",
    r"visual_embed\..*": "of an earlier tokenizer, which the original itself drops",
}
TYPE_VECTOR = "video_embed.embeddings_type.weight"


def our_name(original: str, ffn_gates: int = 1) -> str | None:
    """Our name of an original parameter; None if it is not used.

    Args:
        ffn_gates: 2 where the second linear of an FFN decides for itself (FFN_SHARE_GATE_DECISION: False).
    """
    if layer := _LAYER.fullmatch(original):
        if layer[2] in _PROMPTS:
            return _PROMPTS[layer[2]].format(layer[1])
        name = _name_in_layer(layer[2], _GATES if ffn_gates == 1 else _GATES | _SECOND_FFN_GATE)
        return name and f"encoder.blocks.{layer[1]}.{name}"
    if temperature := re.fullmatch(r"loss_prepare\.logit_scale_(\w+)", original):
        return f"temperatures.{temperature[1]}"
    return _NAMES.get(original)


def reason_unused(original: str) -> str | None:
    """Why our model does not need an original tensor; None if there is no reason to leave it out."""
    return next((reason for pattern, reason in _UNUSED.items() if re.fullmatch(pattern, original)), None)


def twin_of(original: str) -> str | None:
    """The other name of a tensor that is stored twice, if this is the one that is not used."""
    return _TWINS.get(original)


def our_shape(original: str, tensor: Tensor) -> Tensor:
    """An original parameter (or its gradient) in the shape that ours has."""
    if original == "video_embed.embeddings.weight":
        return tensor.flatten(1)  # (D, 3, P, P) convolution -> (D, 3 * P * P) linear on flattened patches
    if original == "token_embed.embeddings_token_type.weight":
        return tensor[0]  # row 1 is never used
    if original in ("s_token_bias", "prompt_embed.target_embedding"):
        return tensor.squeeze(-2)  # (1, D) -> (D), (K, 1, D) -> (K, D)
    return tensor


def _name_in_layer(original: str, gates: Mapping[str, str]) -> str | None:
    if expert := _EXPERT.fullmatch(original):
        return f"{_EXPERT_LINEARS[expert[1]]}.experts.{expert[2]}.{expert[3]}" if expert[1] in _EXPERT_LINEARS else None
    if gate := _GATE.fullmatch(original):
        return f"{gates[gate[1]]}.{_GATE_PARTS[gate[2]]}.{gate[3]}" if gate[1] in gates else None
    return _LAYER_NAMES.get(original)
