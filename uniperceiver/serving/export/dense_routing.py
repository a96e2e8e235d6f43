"""Experts that values choose, as a graph can have them: all of them compute every token (Eq. 4 as it is written).

Which tokens an expert gets depends on values, and no size in a graph may. Weights of all experts lie in one matrix, so
that a linear with experts stays one product.

Shape suffixes: T tokens, E experts, I inputs, O outputs, D width, H hidden width.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.layer import ExpertFeedForward, ExpertLinear, WholeFeedForward
from uniperceiver.moe.route import Route, TokenRoute


class EveryExpertLinear(nn.Module):
    """y = sum_e g_e (W_e x + b_e), where g_e is 0 for experts that were not chosen."""

    def __init__(self, linear: ExpertLinear) -> None:
        super().__init__()
        experts = [cast(nn.Linear, expert) for expert in linear.experts]
        self.experts = len(experts)
        self.register_buffer("weight_XI", torch.cat([expert.weight for expert in experts]))
        self.register_buffer("bias_X", torch.cat([expert.bias for expert in experts]))

    def forward(self, x_TI: Tensor, route: Route) -> Tensor:
        """(T, O)."""
        y_TEO = F.linear(x_TI, self.get_buffer("weight_XI"), self.get_buffer("bias_X")).unflatten(1, (self.experts, -1))
        return (y_TEO * cast(TokenRoute, route).weight_TE[:, :, None]).sum(dim=1)


class EveryFeedForward(nn.Module):
    """y = sum_e g_e FFN_e(x), likewise."""

    def __init__(self, ffn: ExpertFeedForward) -> None:
        super().__init__()
        experts = [cast(WholeFeedForward, expert) for expert in ffn.experts]
        self.router, self.experts = ffn.router, len(experts)
        self.register_buffer("weight_XD", torch.cat([expert.linear1.weight for expert in experts]))
        self.register_buffer("bias_X", torch.cat([expert.linear1.bias for expert in experts]))
        self.register_buffer("weight_EHD", torch.stack([expert.linear2.weight.T for expert in experts]))
        self.register_buffer("bias_ED", torch.stack([expert.linear2.bias for expert in experts]))

    def forward(self, x_TD: Tensor, context: ForwardContext) -> Tensor:
        """(T, D)."""
        weight_TE = cast(TokenRoute, self.router(x_TD, context)[0]).weight_TE
        hidden_TEH = F.gelu(F.linear(x_TD, self.get_buffer("weight_XD"), self.get_buffer("bias_X"))).unflatten(
            1, (self.experts, -1)
        )
        y_ETD = hidden_TEH.transpose(0, 1) @ self.get_buffer("weight_EHD") + self.get_buffer("bias_ED")[:, None]
        return (y_ETD * weight_TE.T[:, :, None]).sum(dim=0)


def with_every_expert(model: nn.Module) -> None:
    """Put these in the place of a model's experts, in place."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ExpertLinear):
                setattr(module, name, EveryExpertLinear(child))
            elif isinstance(child, ExpertFeedForward):
                setattr(module, name, EveryFeedForward(child))
