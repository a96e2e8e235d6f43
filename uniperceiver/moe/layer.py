"""Linears as the encoder's half-blocks hold them, plain or with experts, which are called alike; and whole-FFN experts.

Shape suffixes: T tokens, I inputs, O outputs, D width, A tokens of an expert.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.route import Route
from uniperceiver.moe.router import Router


class Linear(nn.Linear):
    """A dense linear; its route has nothing to say."""

    def forward(self, x_TI: Tensor, route: Route) -> Tensor:  # type: ignore[override]
        return F.linear(x_TI, self.weight, self.bias)


class ExpertLinear(nn.Module):
    """y = sum_e g_e (W_e x + b_e) (Eq. 4)."""

    def __init__(self, inputs: int, outputs: int, experts: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(inputs, outputs) for _ in range(experts))

    def forward(self, x_TI: Tensor, route: Route) -> Tensor:
        return route.linear(self.experts, x_TI)


class WholeFeedForward(nn.Module):
    """An expert that is a whole FFN: linear, exact (erf) GELU, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x_AD: Tensor) -> Tensor:
        return self.linear2(F.gelu(self.linear1(x_AD)))


class ExpertFeedForward(nn.Module):
    """y = sum_e g_e FFN_e(x): experts with the nonlinearity inside, chosen by a gate before the FFN."""

    def __init__(self, router: Router, width: int, hidden: int, experts: int) -> None:
        super().__init__()
        self.router = router
        self.experts = nn.ModuleList(WholeFeedForward(width, hidden) for _ in range(experts))

    def forward(self, x_TD: Tensor, context: ForwardContext) -> Tensor:
        route, _ = self.router(x_TD, context)
        return route.functions(list(self.experts), x_TD)
