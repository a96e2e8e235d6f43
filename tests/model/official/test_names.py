"""Names of the original's parameters: each has its place in our model, or a reason why it has none."""

import pytest
import torch

from tests.tiny import tiny_model
from uniperceiver.model.official.names import our_name, our_shape, reason_unused


@pytest.mark.parametrize(
    ("original", "ours"),
    [
        ("fused_encoder.layers.11.self_attn.in_proj_weight", "encoder.blocks.11.attention.qkv.weight"),
        ("fused_encoder.layers.0.self_attn.out_proj.bias", "encoder.blocks.0.attention.out.bias"),
        ("fused_encoder.layers.3.gamma_2", "encoder.blocks.3.scale2"),
        ("loss_prepare.logit_scale_tqa_caption", "temperatures.tqa_caption"),
        ("loss_prepare.ln_post.weight", "head.norm.weight"),
        ("token_embed.embeddings_norm.bias", "tokenizer.norm.bias"),
        ("video_embed.embeddings_st_pos.temporal_pos_embed.weight", "tokenizer.patches.temporal"),
        ("fused_encoder.layers.0.self_attn.qkv_proj.weight", "encoder.blocks.0.attention.qkv.weight"),
        (
            "fused_encoder.layers.2.self_attn.qkv_proj.experts.deepspeed_experts.7.bias",
            "encoder.blocks.2.attention.qkv.experts.7.bias",
        ),
        ("fused_encoder.layers.2.linear1.gate.wg.weight", "encoder.blocks.2.ffn.router.gates.0.linear.weight"),
        (
            "fused_encoder.layers.2.linear1.gate.tag_transform.0.bias",
            "encoder.blocks.2.ffn.router.gates.0.embed.bias",
        ),
        ("fused_encoder.layers.2.linear2.gate.wg.weight", None),  # the decision of linear1 holds
        ("fused_encoder.layers.2.self_attn.dense.gate.wg.weight", None),  # that of qkv holds
        ("fused_encoder.layers.0", None),
        ("something.else", None),
    ],
)
def test_names(original: str, ours: str | None) -> None:
    assert our_name(original) == ours


def test_our_names_exist_with_a_table_of_positions() -> None:
    state = tiny_model(spatial="table").state_dict()
    for original in ("token_embed.embeddings.weight", "video_embed.embeddings_st_pos.spatial_pos_embed.weight"):
        assert our_name(original) in state


def test_shapes() -> None:
    kernel = torch.randn(5, 3, 4, 4)
    assert torch.equal(our_shape("video_embed.embeddings.weight", kernel), kernel.reshape(5, 48))
    kinds = torch.randn(2, 5)
    assert torch.equal(our_shape("token_embed.embeddings_token_type.weight", kinds), kinds[0])
    other = torch.randn(3, 2)
    assert our_shape("loss_prepare.proj.weight", other) is other


@pytest.mark.parametrize(
    ("original", "reason"),
    [
        ("video_embed.embeddings_norm.weight", "the same tensor"),
        ("token_embed.s_token_bias", "the same tensor"),
        ("fused_encoder.layers.3.self_attn.dense.gate.wg.weight", "never used"),
        ("fused_encoder.layers.3.linear2.gate.tag_transform.0.bias", "not used"),
        ("loss_prepare.loss_queue", "buffer"),
        ("visual_embed.patch.weight", "earlier tokenizer"),
        ("fused_encoder.layers.3.self_attn.qkv_proj.gate.wg.weight", None),
        ("something.else", None),
    ],
)
def test_reasons(original: str, reason: str | None) -> None:
    found = reason_unused(original)
    assert found is None if reason is None else reason in (found or "")
    assert our_name(original) is None or found is None


def test_the_second_ffn_linear_may_decide_for_itself() -> None:
    name = "fused_encoder.layers.2.linear2.gate.wg.weight"
    assert our_name(name) is None
    assert our_name(name, ffn_gates=2) == "encoder.blocks.2.ffn.router.gates.1.linear.weight"
