"""Sizes by name, and a model from an Architecture: every part is made here and passed in."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from uniperceiver.config import ModelConfig
from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.attention import Attention
from uniperceiver.model.encoder import Block, Encoder, FeedForward
from uniperceiver.model.model import Generalist, Head
from uniperceiver.tokenizers.join import SequenceTokenizer
from uniperceiver.tokenizers.vision import PatchTokenizer, SpatialPositions, sincos_1d
from uniperceiver.tokenizers.words import WordTokenizer


@dataclass(frozen=True)
class Size:
    """Width, layers, heads and patch side of a named model size; the FFN is four times as wide."""

    width: int
    layers: int
    heads: int
    patch: int


SIZES = {
    "nano": Size(width=128, layers=5, heads=4, patch=8),
    "tiny": Size(width=192, layers=12, heads=3, patch=16),
    "small": Size(width=384, layers=12, heads=6, patch=16),
    "base": Size(width=768, layers=12, heads=12, patch=16),
    "large": Size(width=1024, layers=24, heads=16, patch=16),
}


def architecture(config: ModelConfig, *, vocabulary: int, end: int, answer: int) -> Architecture:
    """The architecture that a recipe's `model` section asks for.

    Raises:
        UserError: the width cannot be split into the heads.
    """
    size = SIZES[config.size]
    width, heads = config.width or size.width, config.heads or size.heads
    if width % heads or width % 4:
        raise UserError(f"model.width {width} must be a multiple of 4 and of model.heads {heads}")
    return Architecture(
        width=width,
        layers=config.layers or size.layers,
        heads=heads,
        ffn=4 * width,
        patch=config.patch or size.patch,
        patch_frames=config.patch_frames,
        vocabulary=vocabulary,
        end=end,
        answer=answer,
        max_text=config.max_text,
        max_frames=config.max_frames,
        layer_scale=config.layer_scale,
        drop_path=config.drop_path,
        frame_offset=config.frame_offset,
    )


def build(arch: Architecture, temperatures: tuple[str, ...], stream: torch.Generator | None = None) -> Generalist:
    """A model of that architecture with freshly drawn weights (from `stream`, if given)."""
    spatial = SpatialPositions(
        arch.width, kind=arch.spatial, reference_grid=arch.reference_grid, table_grid=arch.table_grid
    )
    tokenizer = SequenceTokenizer(
        WordTokenizer(arch.width, vocabulary=arch.vocabulary, max_text=arch.max_text, answer=arch.answer),
        PatchTokenizer(
            arch.width, patch=arch.patch, depth=arch.patch_frames, max_frames=arch.max_frames, spatial=spatial
        ),
        random_still_row=arch.random_still_row,
        frame_offset=arch.frame_offset,
    )
    blocks = [_block(arch) for _ in range(arch.layers)]
    model = Generalist(
        tokenizer,
        Encoder(blocks, arch.drop_path),
        Head(arch.width),
        temperatures=temperatures,
        max_scale=arch.max_scale,
        likelihood_float32=arch.likelihood_float32,
    )
    initialise(model, stream)
    return model


def _block(arch: Architecture) -> Block:
    return Block(
        arch.width,
        attention=Attention(arch.width, arch.heads),
        ffn=FeedForward(arch.width, arch.ffn),
        layer_scale=arch.layer_scale,
    )


@torch.no_grad()
def initialise(model: Generalist, stream: torch.Generator | None) -> None:
    """Draw the weights: linears Xavier-uniform (packed qkv as three matrices), biases 0, word tables N(0, 0.02)."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            _xavier(module.weight, parts=1, stream=stream)
            module.bias.zero_()
    for module in model.modules():
        if isinstance(module, Attention):
            _xavier(module.qkv.weight, parts=3, stream=stream)
    words, patches = model.tokenizer.words, model.tokenizer.patches
    for table in (words.words, words.positions, words.kind):
        table.normal_(0.0, 0.02, generator=stream)
    # Not N(0, 0.02) as the original: beside patches and spatial positions of size 1 the order of frames would drown,
    # and short runs would not learn motion.
    frames, width = patches.temporal.shape
    patches.temporal.copy_(sincos_1d(torch.arange(frames), width))


def _xavier(weight: torch.Tensor, *, parts: int, stream: torch.Generator | None) -> None:
    rows, columns = weight.shape
    bound = math.sqrt(6.0 / (rows // parts + columns))
    weight.uniform_(-bound, bound, generator=stream)
