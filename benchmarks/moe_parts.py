"""The encoders and FFNs that benchmarks/moe.py measures, made as a recipe would make them.

Shape suffixes: B sequences, N tokens, D width, T tokens of all sequences.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from uniperceiver import ModelConfig, MoEConfig, OptimiserConfig
from uniperceiver.model.build import build
from uniperceiver.model.encoder import Encoder
from uniperceiver.model.merge import merge_model
from uniperceiver.moe.context import ForwardContext
from uniperceiver.optimisation.adamw import adamw
from uniperceiver.records import Segment, Tokens
from uniperceiver.runs.architecture import architecture
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.catalogue import CATALOGUE


@dataclass(frozen=True, kw_only=True)
class Shape:
    """An encoder, and the sequences that it encodes; where they are captions, `cut` tokens are the image."""

    width: int
    layers: int
    heads: int
    length: int = 197
    cut: int = 101

    def tokens(self, batch: int, *, rows: int) -> Tokens:
        """Images to be classified, one row; or images with captions, two rows. Nothing is masked."""
        x_BND = torch.randn(batch, self.length, self.width, generator=torch_stream(0, "tokens"))
        if rows == 1:
            facts = CATALOGUE["image_classification"].facts("input", 0)
            places = [(0, self.length, "visual")]
        else:
            facts = CATALOGUE["image_captioning"].facts("input", 0)
            places = [(0, self.cut, "visual"), (self.cut, self.length, "text")]
        segments = (
            Segment(start=start, stop=stop, kind=kind, causal=kind == "text", facts=facts)
            for start, stop, kind in places
        )
        return Tokens(x_BND=x_BND, segments=tuple(segments))

    def encoder(self, *, merged_for: tuple[Segment, ...] = (), **moe: Any) -> Encoder:
        """An encoder with these settings of a recipe's `moe` section; its experts merged where segments are given."""
        config = ModelConfig(size="tiny", width=self.width, layers=self.layers, heads=self.heads)
        arch = architecture(config, MoEConfig(**moe), tasks=2, vocabulary=300, end=0, answer=1)
        model = build(arch, ("img_cls",), torch_stream(0, "weights"))
        return merge_model(model, arch, {"task": merged_for}).model.encoder if merged_for else model.encoder


class Training:
    """Steps of an encoder: forward, backward, AdamW."""

    def __init__(self, encoder: Encoder, tokens: Tokens) -> None:
        self.encoder, self.tokens = encoder, tokens
        self.optimiser = adamw(encoder, OptimiserConfig())
        self.stream = torch_stream(0, "noise")

    def step(self) -> None:
        x_BND = self.encoder(self.tokens, self.stream).x_BND
        x_BND.square().mean().backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)


@torch.no_grad()
def encode(encoder: Encoder, tokens: Tokens) -> None:
    """Forward alone."""
    encoder(tokens)


class HalfBlock:
    """The FFN of a layer on 8 sequences of normed tokens."""

    def __init__(self, shape: Shape, **moe: Any) -> None:
        tokens = shape.tokens(8, rows=1)
        block = replace(shape, layers=1).encoder(where="ffn", **moe).blocks[0]
        self.ffn: nn.Module = block.ffn  # type: ignore[assignment]
        self.x_TD = tokens.x_BND.flatten(0, 1)
        self.context = ForwardContext(
            sequences=8, length=shape.length, segments=tokens.segments, device=torch.device("cpu"), token_first=False
        )

    def train(self) -> None:
        """Forward and backward."""
        x_TD = self.x_TD.detach().requires_grad_()
        self._run(x_TD, torch_stream(0, "noise")).backward(self.x_TD)
        self.ffn.zero_grad(set_to_none=True)

    @torch.no_grad()
    def infer(self) -> None:
        """Forward alone."""
        self._run(self.x_TD, None)

    def _run(self, x_TD: Tensor, stream: torch.Generator | None) -> Tensor:
        y_TD: Tensor = self.ffn(x_TD, replace(self.context, decisions=[], pooled={}, stream=stream))
        return y_TD
