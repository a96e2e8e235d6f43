"""Names of the original's dense checkpoints: all are known, and together they are our model."""

import pytest
import torch
from safetensors.torch import load_file

from tests.model import golden
from tests.tiny import tiny_model
from uniperceiver.model.official import UNUSED, our_name, our_shape, translate

needs_golden = pytest.mark.skipif(
    not golden.FOLDER.is_dir(), reason=f"no golden data of the original at {golden.FOLDER}"
)


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
        *((name, None) for name in UNUSED),
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


def test_what_is_not_used_is_left_out() -> None:
    found = translate({"loss_prepare.proj.bias": torch.ones(2), "something.else": torch.ones(3)})
    assert list(found) == ["head.linear.bias"]


@needs_golden
@pytest.mark.parametrize("folder", ["dense", "epsilon_dense"])
def test_a_whole_checkpoint_fits_and_only_what_is_known_is_unused(folder: str) -> None:
    state = load_file(golden.FOLDER / folder / "state_dict.safetensors")
    ours = golden.load_model(folder).state_dict()
    translated = translate(state)
    assert {name: value.shape for name, value in translated.items()} == {
        name: value.shape for name, value in ours.items()
    }
    assert len(translated) == sum(our_name(name) is not None for name in state)  # no two for the same place
    assert {name for name in state if our_name(name) is None} <= set(UNUSED)
    for name, reason in UNUSED.items():
        if "the same tensor as" in reason and name in state:
            assert torch.equal(state[name], state[reason.removeprefix("the same tensor as ")])
