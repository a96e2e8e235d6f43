"""Linears as the encoder's half-blocks hold them, plain or with experts, which are called alike; and whole-FFN experts.

Shape suffixes: T tokens, I inputs, O outputs, D width, a tokens of an expert.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.route import Route, Router


class Linear(nn.Linear):
    """A dense linear; its route has nothing to say."""

    def forward(self, x_TI: Tensor, route: Route) -> Tensor:  # type: ignore[override]
        return F.linear(x_TI, self.weight, self.bias)


class ExpertLinear(nn.Module):
    """y = sum_e g_e (W_e x + b_e) (Eq. 4).

    It owns its experts: their weights are read in its forward and nowhere else, so it may be sharded as one unit, or be
    part of a larger one. The experts are never called one by one.
    """

    compiles: ClassVar[bool] = False

    def __init__(self, inputs: int, outputs: int, experts: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(inputs, outputs) for _ in range(experts))

    def forward(self, x_TI: Tensor, route: Route) -> Tensor:
        return route.linear(self.experts, x_TI)


class FeedForward(nn.Module):
    """Linear, exact (erf) GELU, linear; the linears may have experts, which the router chooses."""

    def __init__(self, linear1: nn.Module, linear2: nn.Module, router: nn.Module) -> None:
        super().__init__()
        self.linear1, self.linear2, self.router = linear1, linear2, router

    def forward(self, x_TD: Tensor, context: ForwardContext) -> Tensor:
        route1, route2 = self.router(x_TD, context)
        hidden = self.linear1(x_TD, route1)
        # In place where nobody needs the value before: the widest tensor of the layer is written once less.
        hidden = F.gelu(hidden) if torch.is_grad_enabled() else torch.ops.aten.gelu_(hidden)
        return self.linear2(hidden, route2)


class WholeFeedForward(nn.Module):
    """An expert that is a whole FFN: linear, exact (erf) GELU, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x_aD: Tensor) -> Tensor:
        return self.linear2(F.gelu(self.linear1(x_aD)))


class WholeExperts(nn.ModuleList):
    """Experts that are whole FFNs; their weights are read in its forward, so it may be sharded as one unit."""

    def forward(self, x_TD: Tensor, route: Route) -> Tensor:
        return route.functions(list(self), x_TD)


class ExpertFeedForward(nn.Module):
    """y = sum_e g_e FFN_e(x): experts with the nonlinearity inside, chosen by a gate before the FFN."""

    compiles: ClassVar[bool] = False

    def __init__(self, router: Router, width: int, hidden: int, experts: int) -> None:
        super().__init__()
        self.router = router
        self.experts = WholeExperts(WholeFeedForward(width, hidden) for _ in range(experts))

    def forward(self, x_TD: Tensor, context: ForwardContext) -> Tensor:
        route, _ = self.router(x_TD, context)
        y_TD: Tensor = self.experts(x_TD, route)
        return y_TD
