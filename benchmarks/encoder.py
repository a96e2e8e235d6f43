"""Our dense encoder against the same arithmetic written plainly: what everything around the formulas costs.

Shape suffixes: B sequences, N tokens, D width, H heads, d head width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness import BenchmarkRow, main, ratio
from benchmarks.moe_parts import Shape
from uniperceiver.model.encoder import Encoder
from uniperceiver.records import Tokens


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What is measured."""

    stack: Shape
    batches: tuple[int, ...]
    threads: tuple[int, ...]


TI = Scale(stack=Shape(width=192, layers=12, heads=3), batches=(8, 32), threads=(1, 2))


class PlainBlock(nn.Module):
    """Pre-norm attention and FFN with LayerScale, as one would write them for a dense model alone."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-5), nn.LayerNorm(width, eps=1e-5)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.scale1, self.scale2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))

    def forward(self, x_BND: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x_BND)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query_BHNd, key_BHNd, value_BHNd = qkv.unbind(0)
        y_BHNd = F.scaled_dot_product_attention(query_BHNd, key_BHNd, value_BHNd)
        x_BND = x_BND + self.scale1 * self.out(y_BHNd.transpose(1, 2).flatten(2))
        return x_BND + self.scale2 * self.linear2(F.gelu(self.linear1(self.norm2(x_BND))))


def plain_twin(encoder: Encoder, shape: Shape) -> nn.Sequential:
    """A stack of plain blocks with copies of the encoder's weights."""
    hidden = encoder.get_parameter("blocks.0.ffn.linear1.weight").shape[0]
    twin = nn.Sequential(*(PlainBlock(shape.width, shape.heads, hidden) for _ in encoder.blocks))
    names = {
        name: name.removeprefix("blocks.").replace("attention.", "").replace("ffn.", "")
        for name in encoder.state_dict()
    }
    twin.load_state_dict({names[name]: value.clone() for name, value in encoder.state_dict().items()})
    return twin


def measure(pairs: int, scale: Scale = TI) -> list[BenchmarkRow]:
    """Time of our encoder over that of the plain one: forward without gradients, and forward with backward."""
    before, rows = torch.get_num_threads(), []
    for threads in scale.threads:
        torch.set_num_threads(threads)
        for batch in scale.batches:
            tokens, encoder = scale.stack.tokens(batch, rows=1), scale.stack.encoder(condition="shared")
            plain = plain_twin(encoder, scale.stack)
            for what, run in (("forward", infer), ("forward and backward", train)):
                name = f"encoder/{what}/Ti/batch{batch}/threads{threads}/over plain"
                both: list[Callable[[], object]] = [
                    partial(run, encoder, partial(_encode, encoder, tokens)),
                    partial(run, plain, partial(plain, tokens.x_BND)),
                ]
                rows.append(ratio(name, *both, goal=1.0, pairs=pairs))
    torch.set_num_threads(before)
    return rows


def _encode(encoder: Encoder, tokens: Tokens) -> Tensor:
    return encoder(tokens).x_BND


@torch.no_grad()
def infer(module: nn.Module, forward: Callable[[], Tensor]) -> None:
    """Forward alone."""
    forward()


def train(module: nn.Module, forward: Callable[[], Tensor]) -> None:
    """Forward and backward; no gradient stays."""
    forward().square().mean().backward()
    module.zero_grad(set_to_none=True)


if __name__ == "__main__":
    main(measure)
