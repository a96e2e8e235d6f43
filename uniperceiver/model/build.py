"""A model from an Architecture: every part is made here or in its room, and passed in."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from uniperceiver.model.architecture import Architecture
from uniperceiver.model.attention import Attention
from uniperceiver.model.encoder import Block, Encoder
from uniperceiver.model.model import Generalist, Head
from uniperceiver.model.prompts import Prompts
from uniperceiver.moe.build import HalfBlocks
from uniperceiver.moe.segment_router import Embedding, SegmentGate
from uniperceiver.streams import torch_stream
from uniperceiver.tokenizers.join import TOKENIZERS, SequenceTokenizer


def build(arch: Architecture, temperatures: tuple[str, ...], stream: torch.Generator | None = None) -> Generalist:
    """A model of that architecture with freshly drawn weights (from `stream`, if given)."""
    tokenizers = {name: TOKENIZERS[name](arch) for name in arch.tokenizers}
    tokenizer = SequenceTokenizer(
        tokenizers,
        arch.width,
        {} if arch.regions is None else {"image": "regions"},
        marks_answers=arch.moe is not None and arch.moe.serve_answer,
    )
    halves = HalfBlocks(arch.moe, arch.merged, width=arch.width, heads=arch.heads)
    encoder = Encoder(
        [_block(arch, halves, layer) for layer in range(arch.layers)],
        arch.drop_path,
        token_first=halves.apart,
        whole=halves.looks_at_neighbours,
    )
    model = Generalist(
        tokenizer,
        encoder,
        Head(arch.width),
        temperatures=temperatures,
        prompts=None if arch.prompts is None else Prompts(arch.prompts, layers=arch.layers, width=arch.width),
        max_scale=arch.max_scale,
        likelihood_float32=arch.likelihood_float32,
        mean_readout=arch.readout == "mean",
    )
    model.float()  # whatever a program has made torch's default type
    initialise(model, stream)
    return model


def _block(arch: Architecture, halves: HalfBlocks, layer: int) -> Block:
    half = halves.attention(layer)
    attention = Attention(arch.heads, qkv=half.first, out=half.second, router=half.router)
    ffn = halves.ffn(layer, arch.ffn)
    return Block(arch.width, attention=attention, ffn=ffn, layer_scale=arch.layer_scale)


def empty_model(arch: Architecture, temperatures: Iterable[str]) -> Generalist:
    """A model of that architecture on torch's meta device: its parameters have shapes, but no memory."""
    with _NoNumbers(), torch.device("meta"):
        return build(arch, tuple(temperatures))


class _NoNumbers(TorchFunctionMode):
    """Draws and computes nothing on the meta device: to do that, torch first loads its compiler, 70 MB and a second."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        more = {**(kwargs or {}), "device": "cpu"} if func is torch.arange else kwargs or {}
        return func(*args, **more)


@torch.no_grad()
def initialise(model: Generalist, stream: torch.Generator | None) -> None:
    """Draw the weights: linears Xavier-uniform (packed qkv as three matrices), convolutions N(0, 2 / inputs), biases 0,
    word tables N(0, 0.02).

    Every expert is drawn on its own. Embeddings of routing codes are N(0, 1), so that gates begin undecided but not
    indifferent. What modalities beside images, clips and texts add is drawn apart (tokenizers that say `draws_alone`,
    the entries of codes behind the usual ones), so that all other weights are as in a model without them.
    """
    own = None if stream is None else torch_stream(stream.initial_seed(), "added")
    alone = {
        part for child in model.tokenizer.children() if getattr(child, "draws_alone", False) for part in child.modules()
    }
    usual = {gate.embed: gate.usual for gate in model.modules() if isinstance(gate, SegmentGate)}
    for module in model.modules():
        if module in usual:
            _draw_code(module, usual[module], stream, own)
        elif isinstance(module, nn.Linear):
            _xavier(module.weight, parts=1, stream=own if module in alone else stream)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Conv2d):
            module.weight.normal_(0.0, math.sqrt(2.0 / module.weight[0].numel()), generator=stream)
    for module in model.modules():
        if isinstance(module, Attention):
            for linear in module.qkv.modules():
                if isinstance(linear, nn.Linear):
                    _xavier(linear.weight, parts=3, stream=stream)
    model.tokenizer.initialise(stream)
    if model.prompts is not None:
        model.prompts.initialise(stream)


def _draw_code(embed: nn.Module, usual: int, stream: torch.Generator | None, own: torch.Generator | None) -> None:
    """Draw the embedding of a code: its usual entries from `stream`, those behind them from `own`."""
    if isinstance(embed, Embedding):
        entries, width = embed.table.shape
        parts = [
            embed.table.new_empty(rows, width).normal_(generator=source)
            for rows, source in ((usual, stream), (entries - usual, own))
        ]
        embed.table.copy_(torch.cat(parts))
        return
    assert isinstance(embed, nn.Linear)
    columns = [
        embed.weight.new_empty(embed.out_features, usual),
        embed.weight.new_empty(embed.out_features, embed.in_features - usual),
    ]
    for weight, source in zip(columns, (stream, own), strict=True):
        _xavier(weight, parts=1, stream=source)
    embed.weight.copy_(torch.cat(columns, dim=1))
    embed.bias.zero_()


def _xavier(weight: torch.Tensor, *, parts: int, stream: torch.Generator | None) -> None:
    rows, columns = weight.shape
    bound = math.sqrt(6.0 / (rows // parts + columns))
    weight.uniform_(-bound, bound, generator=stream)
