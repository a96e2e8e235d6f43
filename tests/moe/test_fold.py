"""Merging: folded weights are Eq. 4's sums, equal ones are kept once, and what is not held is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from tests.moe_cases import BY_ROW, TASKS, VQA, moe_model, moe_of
from uniperceiver.errors import UserError
from uniperceiver.moe.conditions import OfSegment
from uniperceiver.moe.fold import fold, mergeable, planned, segment_of_each_code
from uniperceiver.moe.kernels.plain import plain
from uniperceiver.moe.merged_blocks import Merged
from uniperceiver.moe.settings import MoE
from uniperceiver.records import Segment
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.catalogue import CATALOGUE


def all_segments() -> list[Segment]:
    """Those of every task of the catalogue that does not hear, and of questions about pictures."""
    tasks = [*(task for task in CATALOGUE.values() if not task.hears), VQA]
    return [segment for index, task in enumerate(tasks) for segment in task.segments(index % TASKS)]


def some_of_each(moe: MoE) -> list[Segment]:
    return list(segment_of_each_code(moe, all_segments()).values())


def weights_of_gate(router: Any, gate: int, segment: Segment) -> torch.Tensor:
    """g of Eq. 3 of a segment, written out, (E,)."""
    settings = router.settings
    code = torch.tensor([router.condition.code(segment, settings)])
    if not router.gates:
        return code[0]
    embed, norm, linear = (router.gates[gate].get_submodule(name) for name in ("embed", "norm", "linear"))
    r_1D = norm(embed(code)) if isinstance(embed, nn.Linear) else code @ embed.table
    probability_E = linear(r_1D).softmax(dim=-1)[0]
    least = probability_E.sort(descending=True).values[settings.k - 1]
    kept_E = probability_E * (probability_E >= least)
    return kept_E / kept_E.sum() if settings.renormalise else kept_E


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("gates", [1, 2])
@pytest.mark.parametrize("condition", BY_ROW)
def test_a_row_is_the_weighted_sum_of_its_experts(condition: str, gates: int, k: int) -> None:
    half = moe_model(condition, k=k, gates=gates).encoder.blocks[1].ffn
    segments = some_of_each(half.router.settings)
    linears = (list(half.linear1.experts), list(half.linear2.experts))
    folded = fold(half.router, *linears, segments)
    for place, (one, experts) in enumerate(zip(folded, linears, strict=True)):
        x_TI = torch.randn(5, experts[0].in_features, generator=torch_stream(0, "x"))
        for code, segment in enumerate(segments):
            weight_E = weights_of_gate(half.router, min(place, gates - 1), segment)
            expected = plain(x_TI, weight_E.expand(5, -1), experts)
            weight, bias = one.rows[one.row_G[code]]
            torch.testing.assert_close(x_TI @ weight.T + bias, expected, rtol=1e-5, atol=1e-6)
    assert len(segments) > 1
    assert len(folded[0].rows) == len(folded[1].rows) == len(segments)


def test_whole_ffns_are_folded_with_their_weight_behind_the_nonlinearity() -> None:
    half = moe_model("attribute", level="ffn", where="ffn", k=1).encoder.blocks[0].ffn
    segments = some_of_each(half.router.settings)
    linears = ([each.linear1 for each in half.experts], [each.linear2 for each in half.experts])
    first, second = fold(half.router, *linears, segments, whole=True)
    x_TD = torch.randn(5, 16, generator=torch_stream(0, "x"))
    for code, segment in enumerate(segments):
        (weight1, bias1), (weight2, bias2) = first.rows[first.row_G[code]], second.rows[second.row_G[code]]
        hidden = torch.nn.functional.gelu(x_TD @ weight1.T + bias1)
        weight_E = weights_of_gate(half.router, 0, segment)
        expected = plain(x_TD, weight_E.expand(5, -1), list(half.experts))
        torch.testing.assert_close(hidden @ weight2.T + bias2, expected, rtol=1e-5, atol=1e-6)
    assert len(first.rows) < len(second.rows)  # codes with one expert share its first linear, not its weight


def test_rows_that_coincide_are_one() -> None:
    half = moe_model("attribute").encoder.blocks[0].attention
    segments = some_of_each(half.router.settings)
    with torch.no_grad():
        half.router.gates[0].embed.weight[:, [0, 1, 2, 3, 5, 6, 7]] = 0.0  # looks at "token visual" alone
    first, second = fold(half.router, list(half.qkv.experts), list(half.out.experts), segments)
    visual = [segment.kind == "visual" for segment in segments]
    assert first.row_G == second.row_G == tuple(int(each != visual[0]) for each in visual)
    assert len(segments) > 4
    assert len(first.rows) == len(second.rows) == 2


def test_equal_experts_are_one_row_whoever_has_them() -> None:
    half = moe_model("task_specific").encoder.blocks[0].attention
    segments = some_of_each(half.router.settings)
    with torch.no_grad():
        half.out.experts[2].load_state_dict(half.out.experts[0].state_dict())
    first, second = fold(half.router, list(half.qkv.experts), list(half.out.experts), segments)
    assert (first.row_G, second.row_G) == ((0, 1, 2), (0, 1, 0))
    with torch.no_grad():
        half.out.experts[2].bias += 1e-3
    assert fold(half.router, list(half.qkv.experts), list(half.out.experts), segments)[1].row_G == (0, 1, 2)


@pytest.mark.parametrize("condition", ["token", "context", "expert_choice"])
def test_what_depends_on_values_is_refused(condition: str) -> None:
    with pytest.raises(UserError, match=rf"moe.condition={condition} cannot be merged: .* by the values of the tokens"):
        mergeable(moe_of(condition))


def test_nonlinear_experts_are_refused_unless_one_is_taken_alone() -> None:
    with pytest.raises(UserError, match=r"k=2 cannot be merged: .* have their nonlinearity inside"):
        mergeable(moe_of("attribute", level="ffn", where="ffn"))
    assert isinstance(mergeable(moe_of("attribute", level="ffn", where="ffn", k=1)), OfSegment)
    assert isinstance(mergeable(moe_of("task_specific", level="ffn", where="ffn")), OfSegment)


def merged(moe: MoE, segments: list[Segment]) -> Merged:
    return planned(moe, ["seeing", "reading"], tuple(segment_of_each_code(moe, segments)))


def test_planned_rows_are_one_for_each_code() -> None:
    moe = moe_of("attribute", layers=(1,))
    plan = merged(moe, all_segments())
    assert len(plan.codes) == plan.rows == len(set(plan.codes)) > 4
    assert [(each.layer, each.part) for each in plan.half_blocks] == [(1, "attention"), (1, "ffn")]
    assert plan.of(0, "ffn") is None
    assert merged(moe_of("modality"), all_segments()).rows == 2


def test_planned_half_blocks_are_those_that_have_experts() -> None:
    moe = replace(moe_of("attribute"), attention_layers=(0, 2), ffn_layers=(1,))
    half_blocks = merged(moe, all_segments()).half_blocks
    assert [(each.layer, each.part) for each in half_blocks] == [(0, "attention"), (2, "attention"), (1, "ffn")]
