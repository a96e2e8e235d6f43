"""The encoders and half-blocks that benchmarks/moe.py measures, made as a recipe would make them.

Shape suffixes: B sequences, N tokens, D width, T tokens of all sequences.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from uniperceiver.config import ModelConfig, MoEConfig, OptimiserConfig
from uniperceiver.flow import Flow
from uniperceiver.model.build import build
from uniperceiver.model.encoder import Encoder
from uniperceiver.model.sizes import architecture
from uniperceiver.records import Segment, Tokens
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.training.optimiser import adamw

LENGTH, CUT = 197, 101  # tokens of a sequence; where a caption begins


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The shape of an encoder."""

    width: int
    layers: int
    heads: int


def encoder(sizes: Sizes, **moe: Any) -> Encoder:
    """An encoder with these settings of the `moe` section of a recipe."""
    model = ModelConfig(size="tiny", width=sizes.width, layers=sizes.layers, heads=sizes.heads)
    arch = architecture(model, MoEConfig(**moe), tasks=1, vocabulary=300, end=0, answer=1)
    return build(arch, ("img_cls",), torch_stream(0, "weights")).encoder


def stack(sizes: Sizes, condition: str) -> Encoder:
    return encoder(sizes, condition=condition)


def dense_stack(sizes: Sizes) -> Encoder:
    return encoder(sizes, condition="shared")


def images(sizes: Sizes, batch: int) -> Tokens:
    """Images to be classified: one row."""
    facts = CATALOGUE["image_classification"].facts("input")
    return _tokens(sizes, batch, Segment(start=0, stop=LENGTH, kind="visual", causal=False, facts=facts))


def captions(sizes: Sizes, batch: int) -> Tokens:
    """Images with captions: two rows."""
    facts = CATALOGUE["image_captioning"].facts("input")
    return _tokens(
        sizes,
        batch,
        Segment(start=0, stop=CUT, kind="visual", causal=False, facts=facts),
        Segment(start=CUT, stop=LENGTH, kind="text", causal=True, facts=facts),
    )


def _tokens(sizes: Sizes, batch: int, *segments: Segment) -> Tokens:
    x_BND = torch.randn(batch, LENGTH, sizes.width, generator=torch_stream(0, "tokens"))
    return Tokens(x_BND=x_BND, segments=segments)


class Training:
    """Steps of an encoder: forward, backward, AdamW."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.optimiser = encoder, adamw(encoder, OptimiserConfig())
        self.stream = torch_stream(0, "noise")

    def step(self, tokens: Tokens) -> None:
        x = self.encoder(tokens, self.stream).x_BND
        (x * x).mean().backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)


def feed_forward(width: int, **moe: Any) -> tuple[nn.Module, Tensor, Flow]:
    """The FFN of a layer, 1576 normed tokens, and what its router asks for."""
    ffn = encoder(Sizes(width=width, layers=1, heads=width // 64), where="ffn", **moe).blocks[0].ffn
    x_TD = torch.randn(8 * LENGTH, width, generator=torch_stream(0, "tokens"))
    segments = images(Sizes(width=width, layers=1, heads=1), 1).segments
    flow = Flow(sequences=8, length=LENGTH, segments=segments, device=torch.device("cpu"))
    return ffn, x_TD, flow


def learn(ffn: nn.Module, x_TD: Tensor, flow: Flow) -> None:
    """Forward and backward."""
    x_TD = x_TD.detach().requires_grad_()
    flow = replace(flow, decisions=[], context={}, stream=torch_stream(0, "noise"))
    ffn(x_TD, flow).backward(x_TD.detach())
    ffn.zero_grad(set_to_none=True)


@torch.no_grad()
def infer(ffn: nn.Module, x_TD: Tensor, flow: Flow) -> None:
    """Forward alone."""
    ffn(x_TD, replace(flow, decisions=[], context={}))
