"""Routes: kept merged rows, the first tokens alone, whole FFNs.

Shape suffixes: B sequences, N tokens of a sequence, T tokens of all, E experts, R rows, k choices.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.moe.against_plain import linears, used_experts, whole_ffns
from tests.moe.made_up_routes import context_of
from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.kernels.plain import plain, weights_of_groups
from uniperceiver.moe.route import Route, SegmentRoute, TokenRoute, Unrouted
from uniperceiver.streams import torch_stream

WIDTH, OUTPUTS, EXPERTS = 11, 7, 5
SEQUENCES, LENGTH, CUT = 3, 6, 4
CHOSEN, CODES = ((3, 1), (0, 3)), ((1.0, 0.0), (0.0, 1.0))


def x_of(context: ForwardContext) -> Tensor:
    return torch.randn(context.sequences * context.length, WIDTH, generator=torch_stream(0, "x"))


def group_route(context: ForwardContext, *, gated: bool = True) -> SegmentRoute:
    """A group for each segment."""
    spans = tuple((start, stop, group) for group, (start, stop) in enumerate(context.spans))
    sequences, merged = context.sequences, context.merged
    if not gated:
        return SegmentRoute(sequences, spans, CODES, ((3,), (0,)), None, None, merged=merged)
    weight_Gk = torch.tensor([[0.7, 0.3], [0.6, 0.1]])
    return SegmentRoute(sequences, spans, CODES, CHOSEN, weight_Gk, weight_Gk.tolist(), merged=merged)


def token_route(context: ForwardContext) -> TokenRoute:
    weight_TE = torch.rand(context.sequences * context.length, EXPERTS, generator=torch_stream(0, "gate"))
    chosen_TE = weight_TE > 0.5
    return TokenRoute(context, weight_TE * chosen_TE, chosen_TE)


def weights_of(route: Route, x_TI: Tensor) -> Tensor:
    """(T, E)."""
    if isinstance(route, TokenRoute):
        return route.weight_TE
    assert isinstance(route, SegmentRoute)
    weight_Gk = torch.ones(len(route.chosen), 1) if route.weight_Gk is None else route.weight_Gk
    return weights_of_groups(route.spans, route.chosen, weight_Gk, len(x_TI), EXPERTS)


SEGMENTS_APART = context_of(LENGTH, sequences=SEQUENCES, cut=CUT)
SEQUENCES_APART = context_of(LENGTH, sequences=SEQUENCES, cut=CUT, token_first=False)
ROUTES = {
    "groups": group_route(SEGMENTS_APART),
    "groups without a gate": group_route(SEGMENTS_APART, gated=False),
    "tokens": token_route(SEQUENCES_APART),
}


@pytest.mark.parametrize("name", ROUTES)
def test_linears_and_whole_ffns_take_the_experts_of_the_route(name: str) -> None:
    route, x_TI = ROUTES[name], x_of(SEGMENTS_APART)
    for experts, call in (
        (linears(WIDTH, OUTPUTS, EXPERTS), route.linear),
        (whole_ffns(WIDTH, EXPERTS), route.functions),
    ):
        torch.testing.assert_close(call(nn.ModuleList(experts), x_TI), plain(x_TI, weights_of(route, x_TI), experts))


@pytest.mark.parametrize("name", ROUTES)
def test_first_is_the_route_of_the_first_tokens(name: str) -> None:
    route = ROUTES[name]
    context = SEQUENCES_APART if name == "tokens" else SEGMENTS_APART
    x_TI = x_of(context)
    first_BI = context.unpack(x_TI)[:, 0].contiguous()
    for experts, call in ((linears(WIDTH, OUTPUTS, EXPERTS), "linear"), (whole_ffns(WIDTH, EXPERTS), "functions")):
        modules = nn.ModuleList(experts)
        all_BNO = context.unpack(getattr(route, call)(modules, x_TI))
        first_BO = getattr(route.first(), call)(modules, first_BI)
        torch.testing.assert_close(first_BO, all_BNO[:, 0])
        modules.zero_grad()
        first_BO.sum().backward()
        used_E = weights_of(route.first(), first_BI).any(dim=0)
        assert used_experts(experts) == set(used_E.nonzero()[:, 0].tolist())


@pytest.mark.parametrize("gated", [True, False])
@torch.no_grad()
def test_rows_kept_in_generation_are_those_of_the_graph(gated: bool) -> None:
    context = context_of(LENGTH, sequences=SEQUENCES, cut=CUT)
    experts, x_TI = nn.ModuleList(linears(WIDTH, OUTPUTS, EXPERTS)), x_of(context)
    with torch.enable_grad():
        expected_TO = group_route(context, gated=gated).linear(experts, x_TI).detach()
    keeping = replace(context, merged={})
    for _ in range(2):
        torch.testing.assert_close(
            group_route(keeping, gated=gated).linear(experts, x_TI), expected_TO, rtol=1e-6, atol=1e-6
        )
    assert keeping.merged is not None
    assert len(keeping.merged) == (2 if gated else 0)  # an expert taken whole is read where it lies, not kept
    if gated:  # they are really used
        for weight, bias in keeping.merged.values():
            weight.zero_()
            bias.fill_(2.0)
        assert torch.equal(group_route(keeping).linear(experts, x_TI), torch.full((18, OUTPUTS), 2.0))


def test_a_dense_half_block_has_nothing_to_route() -> None:
    assert Unrouted().first() == Unrouted()


@pytest.mark.parametrize("context", [SEGMENTS_APART, SEQUENCES_APART], ids=["segments apart", "sequences apart"])
def test_the_first_tokens_of_first_tokens_are_themselves(context: ForwardContext) -> None:
    route = token_route(context).first()
    again = route.first()
    assert torch.equal(again.weight_TE, route.weight_TE)
    assert torch.equal(again.chosen_TE, route.chosen_TE)
