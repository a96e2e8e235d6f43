"""The original's encoder: pre-norm layers, experts that are mixed by attribute rows, prompts, masks and history.

Shape suffixes: B sequences, N tokens, M tokens that are looked at, D width, H heads, d width of a head, R attribute
rows, A attributes, E experts, k chosen experts, P vectors of a prompt, I O inputs and outputs of a linear.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.golden.original.weights import Original, deep_prompt, normed

FIRST_LINEARS = ("self_attn.qkv_proj", "linear1")
SECOND_LINEARS = {"self_attn.dense": "self_attn.qkv_proj", "linear2": "linear1"}

Span = tuple[int, int, int]  # tokens from, to, and their attribute row
Choice = tuple[Tensor, Tensor]  # experts and weights, (R, k) each


@dataclass(frozen=True, kw_only=True)
class Call:
    """What an encoder call is told beside its tokens."""

    side: str  # "input" or "target"
    attribute_RA: Tensor | None = None  # None: a dense model
    first: int = 0  # tokens of the first part (prefix and patches), where there are two parts; 0: one part
    invalid_BN: Tensor | None = None  # bool, True at padding, which nobody looks at
    blocked_NN: Tensor | None = None  # bool, True where a token may not look
    history: Sequence[Tensor] = ()  # of each layer: inputs of tokens encoded before, (B, M, D)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What there is to record of a call."""

    inputs: list[Tensor] = field(default_factory=list)  # of each layer
    outputs: list[Tensor] = field(default_factory=list)
    choices: dict[str, Choice] = field(default_factory=dict)  # by "layers.0.linear1"


def encode(model: Original, x_BND: Tensor, call: Call) -> Seen:
    """All layers; there is no norm behind the last."""
    seen = Seen()
    for layer in range(model.layers):
        seen.inputs.append(x_BND)
        choices = _choices(model, layer, call)
        seen.choices.update({f"layers.{layer}.{name}": choice for name, choice in choices.items()})
        y_BND = _attention(model, layer, x_BND, call, choices)
        x_BND = x_BND + model.of_layer(layer, "gamma_1") * y_BND
        x_BND = x_BND + model.of_layer(layer, "gamma_2") * _ffn(model, layer, x_BND, call, choices)
        seen.outputs.append(x_BND)
    return seen


def _choices(model: Original, layer: int, call: Call) -> dict[str, Choice]:
    """The decision that holds for each linear of a layer with experts."""
    found: dict[str, Choice] = {}
    for name in FIRST_LINEARS:
        if f"fused_encoder.layers.{layer}.{name}.experts.deepspeed_experts.0.weight" in model:
            found[name] = _gate(model, layer, name, call)
    for name, first in SECOND_LINEARS.items():
        if first in found:
            own = name == "linear2" and model.second_gate
            found[name] = _gate(model, layer, name, call) if own else found[first]
    return found


def _gate(model: Original, layer: int, name: str, call: Call) -> Choice:
    """The likeliest experts of every attribute row, their probabilities divided by their sum (top 1: as they are)."""
    assert call.attribute_RA is not None, "a layer with experts needs attributes"
    part = {key: model.of_layer(layer, f"{name}.gate.{key}") for key in _GATE}
    x_RD = call.attribute_RA.to(part["wg.weight"]) @ part["tag_transform.0.weight"].mT + part["tag_transform.0.bias"]
    x_RD = normed(x_RD, part["tag_transform.1.weight"], part["tag_transform.1.bias"])
    logit_RE = x_RD @ part["wg.weight"].mT
    index_Rk = logit_RE.topk(model.top_k, dim=-1).indices
    weight_Rk = logit_RE.softmax(dim=-1).gather(1, index_Rk)
    return index_Rk, weight_Rk if model.top_k == 1 else weight_Rk / weight_Rk.sum(dim=1, keepdim=True)


_GATE = (
    "tag_transform.0.weight",
    "tag_transform.0.bias",
    "tag_transform.1.weight",
    "tag_transform.1.bias",
    "wg.weight",
)


def _linear(
    model: Original, layer: int, name: str, x_BNI: Tensor, spans: Sequence[Span], choices: Mapping[str, Choice]
) -> Tensor:
    """A linear, or for each span of tokens the mixture of experts that its attribute row chose: weights first."""
    if name not in choices:
        return F.linear(x_BNI, model.of_layer(layer, f"{name}.weight"), model.of_layer(layer, f"{name}.bias"))
    parts = []
    for start, stop, row in spans:
        mixed = {"weight": torch.zeros(()), "bias": torch.zeros(())}
        for expert, weight in zip(choices[name][0][row].tolist(), choices[name][1][row], strict=True):
            for key in mixed:
                each = model.of_layer(layer, f"{name}.experts.deepspeed_experts.{expert}.{key}")
                mixed[key] = mixed[key] + weight * each
        parts.append(F.linear(x_BNI[:, start:stop], mixed["weight"], mixed["bias"]))
    return torch.cat(parts, dim=1)


def _spans(call: Call, length: int) -> list[Span]:
    """Attribute rows of the tokens at hand; behind a history there are only words and queries."""
    if call.history:
        return [(0, length, 1)]
    return _key_spans(call, length, 0)


def _key_spans(call: Call, length: int, before: int) -> list[Span]:
    """Attribute rows of what is looked at, of which the first `before` are prompts and go with the first part."""
    cut = before + call.first
    return [(0, cut, 0), (cut, length, 1)] if call.first and cut < length else [(0, length, 0)]


def _attention(model: Original, layer: int, x_BND: Tensor, call: Call, choices: Mapping[str, Choice]) -> Tensor:
    norm = [model.of_layer(layer, f"norm1.{key}") for key in ("weight", "bias")]
    prompt_PD = deep_prompt(model, layer, call.side)
    prompts = [] if prompt_PD is None else [prompt_PD.expand(len(x_BND), -1, -1)]
    key_BMD = normed(torch.cat([*prompts, *(call.history[layer : layer + 1]), x_BND], dim=1), *norm)
    query_BND = normed(x_BND, *norm)
    count, width, keys = x_BND.shape[1], x_BND.shape[2], key_BMD.shape[1]
    before = 0 if prompt_PD is None else len(prompt_PD)
    name = "self_attn.qkv_proj"
    q_BND = _linear(model, layer, name, query_BND, _spans(call, count), choices)[..., :width]
    k_BMD, v_BMD = _linear(model, layer, name, key_BMD, _key_spans(call, keys, before), choices)[..., width:].chunk(
        2, -1
    )
    q, k, v = (each.unflatten(-1, (model.heads, -1)).transpose(1, 2) for each in (q_BND, k_BMD, v_BMD))
    score_BHNM = q @ k.mT / q.shape[-1] ** 0.5
    for blocked in (call.invalid_BN, call.blocked_NN):
        if blocked is not None:
            hidden = F.pad(blocked if blocked is call.blocked_NN else blocked[:, None, None], (before, 0))  # no prompt
            score_BHNM = score_BHNM.masked_fill(hidden, float("-inf") if not model.is_moe else -1e4)
    y_BND = (score_BHNM.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)
    return _linear(model, layer, "self_attn.dense", y_BND, _spans(call, count), choices)


def _ffn(model: Original, layer: int, x_BND: Tensor, call: Call, choices: Mapping[str, Choice]) -> Tensor:
    spans = _spans(call, x_BND.shape[1])
    x_BND = normed(x_BND, *(model.of_layer(layer, f"norm2.{key}") for key in ("weight", "bias")))
    hidden = _linear(model, layer, "linear1", x_BND, spans, choices)
    hidden = hidden * 0.5 * (1.0 + torch.erf(hidden / 2.0**0.5))
    return _linear(model, layer, "linear2", hidden, spans, choices)
