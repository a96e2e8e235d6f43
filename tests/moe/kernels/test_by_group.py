"""Experts merged row by row, against every expert on every token."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from tests.moe.against_plain import assert_equal_to_plain, linears, used_experts, whole_ffns
from tests.moe.made_up_routes import Rows, made_up_rows
from uniperceiver.moe.kernels.by_group import functions_of_groups, merged_linear
from uniperceiver.moe.kernels.plain import plain, weights_of_groups
from uniperceiver.streams import torch_stream

WIDTH, OUTPUTS = 11, 7


def fast(rows: Rows, x_TI: Tensor, weight_Gk: Tensor, experts: Sequence[nn.Module]) -> Tensor:
    if isinstance(experts[0], nn.Linear):
        return merged_linear(x_TI, rows.spans, rows.chosen, weight_Gk, weight_Gk.tolist(), experts)  # type: ignore[arg-type]
    return functions_of_groups(x_TI, rows.spans, rows.chosen, weight_Gk, experts)


def plainly(rows: Rows, x_TI: Tensor, weight_Gk: Tensor, experts: Sequence[nn.Module]) -> Tensor:
    return plain(x_TI, weights_of_groups(rows.spans, rows.chosen, weight_Gk, len(x_TI), rows.experts), experts)


def tokens_of(rows: Rows) -> Tensor:
    return torch.randn(rows.tokens, WIDTH, generator=torch_stream(0, rows.name))


def test_the_rows_are_of_every_kind() -> None:
    rows = made_up_rows(170)
    assert {0, 1} <= {each.tokens for each in rows}
    assert any(each.experts == len(each.chosen[0]) > 2 for each in rows)
    assert any(len({expert for row in each.chosen for expert in row}) < each.experts for each in rows)
    assert any(len(each.spans) > len(each.chosen) for each in rows)  # a row with two spans
    assert any(set(each.chosen[0]) & set(each.chosen[-1]) for each in rows if len(each.chosen) > 1)


def test_merged_linears_are_the_plain_ones() -> None:
    for rows in made_up_rows(170):
        experts = linears(WIDTH, OUTPUTS, rows.experts)
        assert_equal_to_plain(partial(fast, rows), partial(plainly, rows), tokens_of(rows), rows.weight_Gk, experts)


def test_whole_ffns_are_the_plain_ones() -> None:
    for rows in made_up_rows(60):
        experts = whole_ffns(WIDTH, rows.experts)
        assert_equal_to_plain(partial(fast, rows), partial(plainly, rows), tokens_of(rows), rows.weight_Gk, experts)


def test_without_gates_the_expert_is_taken_whole() -> None:
    spans, chosen = ((0, 4, 1), (4, 9, 0), (9, 10, 1)), ((2,), (0,))
    experts, x_TI = linears(WIDTH, OUTPUTS, 3), torch.randn(10, WIDTH, generator=torch_stream(0, "x"))
    for several in (experts, whole_ffns(WIDTH, 3)):
        assert_equal_to_plain(
            lambda x, weight, experts: (
                merged_linear(x, spans, chosen, None, None, experts)
                if isinstance(experts[0], nn.Linear)
                else functions_of_groups(x, spans, chosen, None, experts)
            ),
            lambda x, weight, experts: plain(x, weights_of_groups(spans, chosen, weight.detach(), 10, 3), experts),
            x_TI,
            torch.ones(2, 1),
            several,
        )


def test_only_experts_of_a_row_get_a_gradient() -> None:
    for rows in made_up_rows(60):
        for experts in (linears(WIDTH, OUTPUTS, rows.experts), whole_ffns(WIDTH, rows.experts)):
            fast(rows, tokens_of(rows), rows.weight_Gk, experts).sum().backward()
            assert used_experts(experts) == {expert for row in rows.chosen for expert in row}


def test_a_token_that_is_not_finite_stays_in_its_row() -> None:
    rows = made_up_rows(40)[23]
    for experts in (linears(WIDTH, OUTPUTS, rows.experts), whole_ffns(WIDTH, rows.experts)):
        x_TI, bad = tokens_of(rows), rows.tokens // 2
        before_TO = fast(rows, x_TI, rows.weight_Gk, experts)
        x_TI[bad] = float("nan")
        after_TO = fast(rows, x_TI, rows.weight_Gk, experts)
        others_T = torch.arange(rows.tokens) != bad
        assert torch.equal(before_TO[others_T], after_TO[others_T])
        assert bool(after_TO[bad].isnan().all())


def test_shares_of_a_gradient_are_rounded_once_in_16_bit() -> None:
    """The product of a merged weight is bfloat16, what each expert gets of it is float32: shares are exact."""
    spans, chosen = ((0, 6, 0),), ((0, 1),)
    weight_Gk = torch.tensor([[0.3, 0.7]], requires_grad=True)
    experts, x_TI = linears(WIDTH, OUTPUTS, 2), torch.randn(6, WIDTH, generator=torch_stream(0, "x"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        merged_linear(x_TI, spans, chosen, weight_Gk, weight_Gk.tolist(), experts).sum().backward()  # type: ignore[arg-type]
    first, second = experts
    for name in ("weight", "bias"):
        small, large = first.get_parameter(name).grad, second.get_parameter(name).grad
        assert small is not None
        assert large is not None
        assert small.dtype == torch.float32
        torch.testing.assert_close(small / 0.3, large / 0.7, rtol=1e-6, atol=0)
