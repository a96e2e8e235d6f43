"""The collapse drill: a gate that sends every token to one expert, with and without balancing.

Eight experts of width 64, two per token, learn a linear map of inputs with a common mean; the gate's weights are turned
along that mean until one expert's logit is 10 higher for every token. Shape suffixes: T tokens, D width, E experts.
"""

from collections.abc import Iterator
from functools import cache

import pytest
import torch
from torch.nn import functional as F

from uniperceiver.moe.balance import balance_terms, moved_bias, share
from uniperceiver.moe.conditions import condition_of
from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.layer import ExpertLinear
from uniperceiver.moe.settings import MoE
from uniperceiver.moe.token_router import TokenRouter
from uniperceiver.records import Decision, Facts, Segment
from uniperceiver.training.experts import CollapseAlarm, gate_loads

WIDTH, EXPERTS, K = 64, 8, 2
SEQUENCES, LENGTH = 8, 32
TEXT = Segment(
    start=0, stop=LENGTH, kind="text", causal=False, facts=Facts(side="input", inputs=("text",), targets=("text",))
)


def drill(seed: int, *, switch: float = 0.0, bias_rate: float = 0.0, steps: int = 300) -> Iterator[Decision]:
    """The decision of each step."""
    torch.manual_seed(seed)
    settings = MoE(condition="token", experts=EXPERTS, k=K, selection_bias=bias_rate > 0)
    router = TokenRouter(condition_of("token"), settings, WIDTH, heads=4, layer=0, part="ffn")  # type: ignore[arg-type]
    experts, mean_D = ExpertLinear(WIDTH, WIDTH, EXPERTS), torch.randn(WIDTH)
    teacher_DD = torch.randn(WIDTH, WIDTH) / WIDTH**0.5
    gate = router.gates[0]
    with torch.no_grad():
        gate.linear.weight[0] += 10 * mean_D / mean_D.square().sum()
    optimiser = torch.optim.AdamW([*router.parameters(), *experts.parameters()], lr=3e-3)
    stream = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x_TD = mean_D + torch.randn(SEQUENCES * LENGTH, WIDTH, generator=stream)
        context = ForwardContext(
            sequences=SEQUENCES, length=LENGTH, segments=(TEXT,), device=torch.device("cpu"), stream=stream
        )
        route, _ = router(x_TD, context)
        loss = F.mse_loss(experts(x_TD, route), x_TD @ teacher_DD)
        terms = balance_terms(context.decisions, {"switch": switch}, 4.0)
        optimiser.zero_grad()
        sum(terms.values(), loss).backward()
        optimiser.step()
        (decision,) = context.decisions
        if bias_rate:
            gate.bias_E.copy_(moved_bias(gate.bias_E, decision.wanted_TE.sum(dim=0), bias_rate))
        yield decision


def largest_load(decision: Decision) -> float:
    return float(share(decision.wanted_TE).max())


@cache
def course(seed: int, switch: float = 0.0, bias_rate: float = 0.0) -> tuple[list[float], list[int], list[int]]:
    """The largest load of each step, and the steps at which the alarm rang and took it back."""
    alarm, course, rang, recovered = CollapseAlarm(K), list[float](), list[int](), list[int]()
    for step, decision in enumerate(drill(seed, switch=switch, bias_rate=bias_rate), start=1):
        course.append(largest_load(decision))
        collapsed, well = alarm.add(gate_loads({"drill": [decision]}))
        rang += [step] * len(collapsed)
        recovered += [step] * len(well)
    return course, rang, recovered


SEEDS = pytest.mark.parametrize("seed", [0, 1])


@SEEDS
def test_without_balancing_a_collapsed_gate_stays_so_and_is_warned_of(seed: int) -> None:
    course_N, rang, recovered = course(seed)
    assert course_N[0] > 0.49  # every token chooses the same expert: half of the assignments
    assert rang[0] <= 50
    assert course_N[-1] > 0.45
    assert len(rang) - len(recovered) == 1  # the last that was said is that it has collapsed


@SEEDS
def test_the_switch_loss_spreads_the_tokens_again(seed: int) -> None:
    course_N, rang, recovered = course(seed, 0.1)
    assert course_N[0] > 0.49
    assert course_N[299] <= 0.3
    assert max(course_N[200:]) <= 0.3
    assert len(rang) == len(recovered) == 1
    assert rang[0] < recovered[0] <= 100


@SEEDS
def test_a_bias_of_selection_spreads_them_without_a_loss(seed: int) -> None:
    course_N, _, recovered = course(seed, 0.0, 0.01)
    assert recovered
    assert recovered[0] <= 100
    assert sum(course_N[250:]) / 50 < 0.4
