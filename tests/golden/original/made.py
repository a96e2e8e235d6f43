"""Random weights of an original model, under its names and with its shapes.

Shape suffixes: D width, A attributes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

TEMPERATURES = (
    *("img_cls", "video_cls", "text_mlm", "text_caption", "caption", "mlm", "retrieve", "tqa_mlm", "tqa_caption"),
    *("tqa_retrieve", "downstream"),
)
_ATTRIBUTES = 8
_LOCATIONS = {"odd": lambda layer: layer % 2 == 0, "all": lambda layer: True, "four": lambda layer: layer % 4 == 0}

Shape = tuple[int, ...]


def random_state(size: Mapping[str, Any], prompts: Mapping[str, int], stream: torch.Generator) -> dict[str, Tensor]:
    """Every tensor drawn, none trivial: also norms, biases, LayerScale and temperatures.

    Args:
        prompts: what prompt tuning added: deep, targets, classes, labels; empty: nothing.
    """
    state = {name: _draw(name, shape, stream) for name, shape in _shapes(size, prompts)}
    state["loss_prepare.logit_scale_text_mlm"] = torch.tensor(4.8)  # exp is above 100, where it is cut off
    for name in ("weight", "bias"):
        state[f"video_embed.embeddings_norm.{name}"] = state[f"token_embed.embeddings_norm.{name}"]
    if prompts:
        state["token_embed.s_token_bias"] = state["s_token_bias"]
    return state


def shrink(state: dict[str, Tensor], factor: float) -> None:
    """Make all that enters the embedding's norm so small that its epsilon counts."""
    for name in state:
        if name.startswith(("token_embed.", "video_embed.", "s_token")) and "_norm" not in name:
            state[name] = state[name] * factor


def _draw(name: str, shape: Shape, stream: torch.Generator) -> Tensor:
    z = torch.randn(shape, generator=stream)
    if "logit_scale" in name:
        return 2.2 + 0.4 * z.abs()
    if ".gamma_" in name:
        return 0.6 + 0.25 * z
    if "similarity" in name or (("norm" in name or "ln_post" in name or "transform.1" in name) and "weight" in name):
        return 1.0 + 0.2 * z
    if name.endswith("bias") or name == "prompt_embed.target_embedding":
        return 0.3 * z
    is_table = "embed" in name and len(shape) == 2
    return 0.7 * z if is_table else z * 1.4 / float(torch.tensor(shape[1:]).prod()) ** 0.5


def _shapes(size: Mapping[str, Any], prompts: Mapping[str, int]) -> Iterator[tuple[str, Shape]]:
    width, patch, grid = size["dim"], size["patch"], size["image"] // size["patch"]
    if prompts:
        yield "s_token_bias", (1, width)
    if prompts.get("classes"):
        yield from (("similarity_weight", ()), ("fc_prompt.weight", (prompts["classes"], width)))
        yield "fc_prompt.bias", (prompts["classes"],)
    if prompts.get("labels"):
        yield "prompt_embed.target_embedding", (prompts["labels"], 1, width)
    for layer in range(size["layers"]):
        yield from ((f"fused_encoder.layers.{layer}.{name}", shape) for name, shape in _layer(size, prompts, layer))
    yield "token_embed.embeddings.weight", (size["vocab"], width)
    yield from _pair("token_embed.embeddings_norm", (width,))
    yield "token_embed.embeddings_pos.position_embeddings.weight", (size["position_max_len"], width)
    yield "token_embed.embeddings_token_type.weight", (2, width)
    yield "video_embed.embeddings_type.weight", (1, width)
    yield "video_embed.embeddings_st_pos.spatial_pos_embed.weight", (grid**2, width)
    yield "video_embed.embeddings_st_pos.temporal_pos_embed.weight", (size["max_frames"], width)
    yield from _pair("video_embed.embeddings", (width, 3, patch, patch))
    yield from ((f"loss_prepare.logit_scale_{name}", ()) for name in TEMPERATURES)
    yield from _pair("loss_prepare.ln_post", (width,))
    yield from _pair("loss_prepare.proj", (width, width))


def _layer(size: Mapping[str, Any], prompts: Mapping[str, int], layer: int) -> Iterator[tuple[str, Shape]]:
    width, ffn = size["dim"], size["ffn"]
    yield from ((f"gamma_{index}", (width,)) for index in (1, 2))
    linears = {"self_attn.qkv_proj": (3 * width, width), "self_attn.dense": (width, width)}
    linears |= {"linear1": (ffn, width), "linear2": (width, ffn)}
    has_experts = size["moe"] and _LOCATIONS[size["moe_location"]](layer)
    for name, shape in linears.items():
        if has_experts and ("SA" if name.startswith("self_attn") else "FFN") in size["moe_type"].split(","):
            yield from _experts(name, shape, size)
        elif size["moe"] or not name.startswith("self_attn"):
            yield from _pair(name, shape)
    if not size["moe"]:
        yield from (("self_attn.in_proj_weight", (3 * width, width)), ("self_attn.in_proj_bias", (3 * width,)))
        yield from _pair("self_attn.out_proj", (width, width))
    yield from (each for index in (1, 2) for each in _pair(f"norm{index}", (width,)))
    if prompts.get("deep"):
        yield "deep_prompt_embedding.embedding.weight", (prompts["deep"], width)
    if prompts.get("targets"):
        yield "deep_prompt_embedding.target_embedding.weight", (prompts["targets"], width)


def _experts(name: str, shape: Shape, size: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
    yield from _pair(f"{name}.gate.tag_transform.0", (size["dim"], _ATTRIBUTES))
    yield from _pair(f"{name}.gate.tag_transform.1", (size["dim"],))
    yield f"{name}.gate.wg.weight", (size["experts"], size["dim"])
    for expert in range(size["experts"]):
        yield from _pair(f"{name}.experts.deepspeed_experts.{expert}", shape)


def _pair(name: str, shape: Shape) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]
