"""Routers: the gates of a half-block (attention or FFN), from its input to the routes of its two linears.

Shape suffixes: T tokens, B sequences, N tokens of a sequence, D width, C width of R, E experts, R rows, k choices.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from uniperceiver.flow import Flow
from uniperceiver.moe.route import Route, Unrouted
from uniperceiver.moe.settings import MoE


class Router(Protocol):
    """From a half-block's input to the routes of its first and its second linear."""

    def __call__(self, x_TD: Tensor, flow: Flow) -> tuple[Route, Route]: ...


class NoRouter(nn.Module):
    """A dense half-block."""

    def forward(self, x_TD: Tensor, flow: Flow) -> tuple[Route, Route]:
        return Unrouted(), Unrouted()


def gates_of(settings: MoE, part: str) -> int:
    """How many gates an attention or FFN has."""
    return settings.attention_gates if part == "attention" else settings.ffn_gates


def draw_noise(shape: tuple[int, ...], settings: MoE, flow: Flow) -> Tensor | None:
    """N(0, (noise / E)^2) in training."""
    if flow.stream is None or settings.noise == 0:
        return None
    drawn = torch.randn(shape, generator=flow.stream) * (settings.noise / settings.experts)
    return drawn.to(flow.device)
