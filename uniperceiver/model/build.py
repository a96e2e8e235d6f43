"""A model from an Architecture: every part is made here and passed in."""

import math

import torch
from torch import nn

from uniperceiver.model.architecture import Architecture
from uniperceiver.model.attention import Attention
from uniperceiver.model.encoder import Block, Encoder, FeedForward
from uniperceiver.model.model import Generalist, Head
from uniperceiver.model.prompts import Prompts
from uniperceiver.moe.conditions import Condition, OfSegment, OfValues, condition_of
from uniperceiver.moe.fold import mergeable
from uniperceiver.moe.layer import ExpertFeedForward, ExpertLinear, Linear
from uniperceiver.moe.merged_blocks import Held, RowFeedForward, RowLookup, row_linear
from uniperceiver.moe.router import NoRouter
from uniperceiver.moe.segment_router import Embedding, SegmentRouter
from uniperceiver.moe.settings import MoE
from uniperceiver.moe.token_router import TokenRouter
from uniperceiver.tokenizers.join import TOKENIZERS, SequenceTokenizer


def build(arch: Architecture, temperatures: tuple[str, ...], stream: torch.Generator | None = None) -> Generalist:
    """A model of that architecture with freshly drawn weights (from `stream`, if given)."""
    tokenizer = SequenceTokenizer({name: make(arch) for name, make in TOKENIZERS.items()}, arch.width)
    condition = None if arch.moe is None else condition_of(arch.moe.condition)
    held = None if arch.moe is None or arch.merged is None else Held(mergeable(arch.moe), arch.moe, arch.merged)
    encoder = Encoder(
        [_block(arch, layer, held) for layer in range(arch.layers)],
        arch.drop_path,
        token_first=isinstance(condition, OfSegment) and (held is None or held.merged.rows > 1),
        whole=_looks_at_all(condition, arch.moe),
    )
    model = Generalist(
        tokenizer,
        encoder,
        Head(arch.width),
        temperatures=temperatures,
        prompts=None if arch.prompts is None else Prompts(arch.prompts, layers=arch.layers, width=arch.width),
        max_scale=arch.max_scale,
        likelihood_float32=arch.likelihood_float32,
    )
    initialise(model, stream)
    return model


def _looks_at_all(condition: Condition | None, moe: MoE | None) -> bool:
    """Whether the experts of a token depend on other tokens of the layer."""
    if moe is None or not isinstance(condition, OfValues):
        return False
    return condition.pools or condition.experts_choose or moe.capacity


def _block(arch: Architecture, layer: int, held: Held | None) -> Block:
    attention, ffn = _attention(arch, layer, held), _ffn(arch, layer, held)
    return Block(arch.width, attention=attention, ffn=ffn, layer_scale=arch.layer_scale)


def _attention(arch: Architecture, layer: int, held: Held | None) -> Attention:
    moe = arch.moe if arch.moe is not None and layer in arch.moe.attention_layers else None
    d = arch.width
    qkv, out, router = _half_block(arch, moe, layer, "attention", ((d, 3 * d), (d, d)), held)
    return Attention(arch.heads, qkv=qkv, out=out, router=router)


def _ffn(arch: Architecture, layer: int, held: Held | None) -> nn.Module:
    moe = arch.moe if arch.moe is not None and layer in arch.moe.ffn_layers else None
    if moe is not None and moe.level == "ffn" and held is None:
        return ExpertFeedForward(_router(arch, moe, layer, "ffn"), arch.width, arch.ffn, moe.experts)
    linear1, linear2, router = _half_block(
        arch, moe, layer, "ffn", ((arch.width, arch.ffn), (arch.ffn, arch.width)), held
    )
    if isinstance(router, RowLookup):
        return RowFeedForward(linear1, linear2, router)
    return FeedForward(linear1, linear2, router)


def _half_block(
    arch: Architecture,
    moe: MoE | None,
    layer: int,
    part: str,
    shapes: tuple[tuple[int, int], tuple[int, int]],
    held: Held | None,
) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The two linears of an attention or FFN, from their inputs and outputs, and the router."""
    first, second = shapes
    rows = None if held is None else held.merged.of(layer, part)
    if held is not None and rows is not None:
        return row_linear(*first, rows.first), row_linear(*second, rows.second), RowLookup(held, rows)
    return _linear(*first, moe), _linear(*second, moe), _router(arch, moe, layer, part)


def _linear(inputs: int, outputs: int, moe: MoE | None) -> nn.Module:
    return Linear(inputs, outputs) if moe is None else ExpertLinear(inputs, outputs, moe.experts)


def _router(arch: Architecture, moe: MoE | None, layer: int, part: str) -> nn.Module:
    if moe is None:
        return NoRouter()
    condition = condition_of(moe.condition)
    if isinstance(condition, OfSegment):
        return SegmentRouter(condition, moe, arch.width, layer=layer, part=part)
    return TokenRouter(condition, moe, arch.width, heads=arch.heads, layer=layer, part=part)


@torch.no_grad()
def initialise(model: Generalist, stream: torch.Generator | None) -> None:
    """Draw the weights: linears Xavier-uniform (packed qkv as three matrices), biases 0, word tables N(0, 0.02).

    Every expert is drawn on its own. Embeddings of routing codes are N(0, 1), so that gates begin undecided but not
    indifferent.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            _xavier(module.weight, parts=1, stream=stream)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, Embedding):
            module.table.normal_(generator=stream)
    for module in model.modules():
        if isinstance(module, Attention):
            for linear in module.qkv.modules():
                if isinstance(linear, nn.Linear):
                    _xavier(linear.weight, parts=3, stream=stream)
    model.tokenizer.initialise(stream)
    if model.prompts is not None:
        model.prompts.initialise(stream)


def _xavier(weight: torch.Tensor, *, parts: int, stream: torch.Generator | None) -> None:
    rows, columns = weight.shape
    bound = math.sqrt(6.0 / (rows // parts + columns))
    weight.uniform_(-bound, bound, generator=stream)
