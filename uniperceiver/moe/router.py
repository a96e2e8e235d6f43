"""Routers: the gates of a half-block (attention or FFN), from its input to the routes of its two linears.

Shape suffixes: T tokens, B sequences, N tokens of a sequence, D width, C width of R, E experts, R rows, k choices.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.route import Route, Unrouted
from uniperceiver.moe.settings import MoE


class Router(Protocol):
    """From a half-block's input to the routes of its first and its second linear."""

    def __call__(self, x_TD: Tensor, context: ForwardContext) -> tuple[Route, Route]: ...


class NoRouter(nn.Module):
    """A dense half-block."""

    def forward(self, x_TD: Tensor, context: ForwardContext) -> tuple[Route, Route]:
        return Unrouted(), Unrouted()


def gates_of(settings: MoE, part: str) -> int:
    """How many gates an attention or FFN has; whole-FFN experts are chosen once."""
    if part == "attention":
        return settings.attention_gates
    return 1 if settings.level == "ffn" else settings.ffn_gates


def draw_noise(rows: int, columns: int, settings: MoE, context: ForwardContext) -> Tensor | None:
    """N(0, (noise / E)^2) in training, (rows, columns, E).

    A gate takes one number from the pass's stream and draws row after row from a stream of its own, so neither its
    first rows nor what other gates draw depend on how many rows there are: on padding, or on a summary alone.
    """
    if context.stream is None or settings.noise == 0:
        return None
    own = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=context.stream)))
    wide = columns * settings.experts
    # Normals are drawn in blocks of 16: of whole blocks, more of them begin like fewer.
    drawn = torch.randn(rows, -(-wide // 16) * 16, generator=own)[:, :wide] * (settings.noise / settings.experts)
    return drawn.unflatten(1, (columns, settings.experts)).to(context.device)
