"""The half-blocks of a merged model: what is held is looked up, and goes through plain weights; the rest is refused."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch

from tests.moe_cases import VQA, moe_of
from uniperceiver.errors import UserError
from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.fold import mergeable, planned, segment_of_each_code
from uniperceiver.moe.merged_blocks import (
    HeldCodes,
    Merged,
    MergedHalfBlock,
    MergedLinear,
    MergedRoute,
    MergedRouter,
    linear_with_rows,
)
from uniperceiver.moe.settings import MoE
from uniperceiver.records import Segment
from uniperceiver.streams import torch_stream
from uniperceiver.strict import parse
from uniperceiver.tasks.catalogue import CATALOGUE


def merged(moe: MoE, segments: Iterable[Segment]) -> Merged:
    """Each code of the segments has a row of its own."""
    return planned(moe, ["seeing", "reading"], tuple(segment_of_each_code(moe, segments)))


def test_part_of_the_codes() -> None:
    whole = Merged(
        tasks=("a",),
        codes=((0.0,), (0.25,), (0.5,), (1.0,)),
        half_blocks=(MergedHalfBlock(layer=0, part="ffn", first=(0, 1, 2, 1), second=(0, 0, 0, 1)),),
    )
    part = whole.restricted_to([(1.0,), (0.25,), (0.5,)])
    assert part.codes == ((1.0,), (0.25,), (0.5,))
    assert part.half_blocks == (MergedHalfBlock(layer=0, part="ffn", first=(0, 0, 1), second=(0, 1, 1)),)
    assert (whole.rows, part.rows, whole.restricted_to([(0.0,)]).rows) == (3, 2, 1)


def test_a_damaged_record_is_one_line() -> None:
    half = {"layer": 3, "part": "ffn", "first": [0, 1], "second": [0]}
    values = {"tasks": ["a"], "codes": [[0.0], [1.0]], "half_blocks": [half]}
    with pytest.raises(UserError, match=r"config: .*layer 3, ffn: must name a row for each of the codes"):
        parse(Merged, values, "config")


def test_what_is_not_held_is_refused_and_the_tasks_are_named() -> None:
    moe = moe_of("attribute")
    segments = CATALOGUE["image_captioning"].segments()
    held = HeldCodes(mergeable(moe), moe, merged(moe, list(segments)))
    assert held.codes_of(segments) == held.codes_of(segments) == (0, 1, 2)
    assert held.codes_of(segments[1:]) == (1, 2)
    assert held.codes_of(segments[:2]) == (0, 1)
    other = CATALOGUE["image_classification"].segments()[:1]
    with pytest.raises(
        UserError, match="merged for seeing, reading, and holds no weights for visual tokens of inputs of"
    ):
        held.codes_of(other)
    assert held.codes_of(segments) == (0, 1, 2)


def test_a_condition_without_a_code_says_so_and_names_the_tasks() -> None:
    moe = moe_of("task")
    held = HeldCodes(mergeable(moe), moe, merged(moe, list(CATALOGUE["image_captioning"].segments(1))))
    assert held.codes_of(VQA.segments(1)) == (0, 0, 0)
    with pytest.raises(UserError, match=r"name it with task= \(this model was merged for: seeing, reading\)"):
        held.codes_of(VQA.segments())
    with pytest.raises(UserError, match=r"merged for seeing, reading, .*task 2 of the run .*; ask one of these tasks"):
        held.codes_of(VQA.segments(2))


def context_of(segments: tuple[Segment, ...], sequences: int) -> ForwardContext:
    return ForwardContext(
        sequences=sequences,
        length=segments[-1].stop,
        segments=segments,
        device=torch.device("cpu"),
        token_first=len(segments) > 1,
    )


def lookup(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[MergedRouter, tuple[Segment, ...]]:
    """A router that holds the three codes of captions, and the two segments of their inputs: 3 and 2 tokens."""
    moe = moe_of("attribute")
    visual, text, candidate = CATALOGUE["image_captioning"].segments()
    plan = merged(moe, [visual, text, candidate])
    router = MergedRouter(
        HeldCodes(mergeable(moe), moe, plan), MergedHalfBlock(layer=0, part="ffn", first=first, second=second)
    )
    return router, (replace(visual, stop=3), replace(text, start=3, stop=5))


def test_each_segment_goes_through_its_row() -> None:
    router, segments = lookup((0, 1, 2), (0, 0, 1))
    context = context_of(segments, 4)
    route1, route2 = router(torch.empty(20, 0), context)
    assert route1 == MergedRoute(4, ((0, 12, 0), (12, 20, 1)))
    assert route2 == MergedRoute(4, ((0, 20, 0),))
    assert route1.first() == MergedRoute(4, ((0, 4, 0),))
    linear = linear_with_rows(6, 7, router.rows.first)
    assert isinstance(linear, MergedLinear)
    x_TI = torch.randn(20, 6, generator=torch_stream(0, "x"))
    one, other, _ = linear.rows
    expected = torch.cat([one(x_TI[:12]), other(x_TI[12:])])
    torch.testing.assert_close(linear(x_TI, route1), expected)
    with torch.no_grad():
        torch.testing.assert_close(linear(x_TI, route1), expected.detach())
    assert context.decisions == []


def test_one_row_is_a_plain_linear() -> None:
    router, segments = lookup((0, 0, 0), (0, 1, 0))
    route1, route2 = router(torch.empty(20, 0), context_of(segments, 4))
    linear = linear_with_rows(6, 7, router.rows.first)
    assert sorted(linear.state_dict()) == ["bias", "weight"]
    x_TI = torch.randn(20, 6)
    assert torch.equal(linear(x_TI, route1), torch.nn.functional.linear(x_TI, linear.weight, linear.bias))
    assert route2 == MergedRoute(4, ((0, 12, 0), (12, 20, 1)))
    assert sorted(linear_with_rows(6, 7, router.rows.second).state_dict())[0] == "rows.0.bias"


@pytest.mark.parametrize("grad", [True, False])
def test_sixteen_bit(grad: bool) -> None:
    router, segments = lookup((0, 1, 2), (0, 1, 2))
    route, _ = router(torch.empty(20, 0), context_of(segments, 4))
    linear = linear_with_rows(6, 7, router.rows.first)
    x_TI = torch.randn(20, 6, generator=torch_stream(0, "x"))
    expected = linear(x_TI, route)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.set_grad_enabled(grad):
        found = linear(x_TI, route)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=2e-2, atol=2e-2)


def test_gradients_reach_the_rows_that_were_used() -> None:
    router, segments = lookup((0, 1, 2), (0, 1, 2))
    route, _ = router(torch.empty(20, 0), context_of(segments, 4))
    linear = linear_with_rows(6, 7, router.rows.first)
    assert isinstance(linear, MergedLinear)
    x_TI = torch.randn(20, 6, generator=torch_stream(0, "x"), requires_grad=True)
    (linear(x_TI, route) ** 2).sum().backward()
    one, other, unused = linear.rows
    with torch.no_grad():
        dy_TO = 2 * torch.cat([one(x_TI[:12]), other(x_TI[12:])])
    torch.testing.assert_close(one.weight.grad, dy_TO[:12].T @ x_TI[:12].detach())
    torch.testing.assert_close(other.weight.grad, dy_TO[12:].T @ x_TI[12:].detach())
    torch.testing.assert_close(other.bias.grad, dy_TO[12:].sum(dim=0))
    assert unused.weight.grad is None
    torch.testing.assert_close(x_TI.grad, torch.cat([dy_TO[:12] @ one.weight, dy_TO[12:] @ other.weight]))
