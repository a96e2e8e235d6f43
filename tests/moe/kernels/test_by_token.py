"""Experts chosen token by token, against every expert on every token."""

from collections.abc import Sequence
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from tests.moe.against_plain import assert_equal_to_plain, linears, used_experts, whole_ffns
from tests.moe.made_up_routes import Tokens, made_up_tokens
from uniperceiver.moe.kernels.by_token import Assignments, dispatched, dispatched_linear, grouped_linear
from uniperceiver.moe.kernels.plain import plain
from uniperceiver.streams import torch_stream

WIDTH, OUTPUTS = 11, (7, 19)  # narrower and wider


def fast(tokens: Tokens, x_TI: Tensor, gate_TE: Tensor, experts: Sequence[nn.Module]) -> Tensor:
    weight_TE = gate_TE * tokens.chosen_TE
    to = Assignments.of(weight_TE, tokens.chosen_TE)
    if isinstance(experts[0], nn.Linear):
        return dispatched_linear(x_TI, weight_TE, to, experts)  # type: ignore[arg-type]
    return dispatched(x_TI, to, experts, WIDTH)


def plainly(tokens: Tokens, x_TI: Tensor, gate_TE: Tensor, experts: Sequence[nn.Module]) -> Tensor:
    return plain(x_TI, gate_TE * tokens.chosen_TE, experts)


def grouped(tokens: Tokens, x_TI: Tensor, gate_TE: Tensor, experts: Sequence[nn.Module]) -> Tensor:
    weight_TE = gate_TE * tokens.chosen_TE
    to = Assignments.of(weight_TE, tokens.chosen_TE)
    bias_TO = weight_TE @ torch.stack([each.bias for each in experts])  # type: ignore[misc]
    if torch.is_autocast_enabled("cpu"):
        x_TI = x_TI.bfloat16()
    return grouped_linear(bias_TO.float(), x_TI, to, [experts[each].weight for each in to.used()])  # type: ignore[misc]


def x_of(tokens: Tokens, width: int = WIDTH) -> Tensor:
    return torch.randn(len(tokens.chosen_TE), width, generator=torch_stream(0, tokens.name))


def test_the_choices_are_of_every_kind() -> None:
    choices = [each.chosen_TE for each in made_up_tokens(190)]
    assert {0, 1} <= {len(each) for each in choices}
    assert any(each.numel() > 1 and bool(each.all()) for each in choices)  # k = E
    assert any(len(each) > 1 and not bool(each.any()) for each in choices)  # padding only
    assert any(0 < int((~each.any(dim=1)).sum()) < len(each) for each in choices)  # some padding
    assert any(len(each) > 1 and not bool(each.any(dim=0).all()) for each in choices)  # an expert without a token
    assert any(len(each) > 1 and each.shape[1] > 1 and int(each.any(dim=0).sum()) == 1 for each in choices)
    assert any(each.shape[1] == 64 for each in choices)


def test_dispatched_linears_are_the_plain_ones() -> None:
    for index, tokens in enumerate(made_up_tokens(190)):
        experts = linears(WIDTH, OUTPUTS[index % 2], tokens.chosen_TE.shape[1])
        assert_equal_to_plain(partial(fast, tokens), partial(plainly, tokens), x_of(tokens), tokens.weight_TE, experts)


@pytest.mark.parametrize(("inputs", "outputs"), [(8, 16), (16, 8)])
def test_grouped_products_are_the_plain_ones(inputs: int, outputs: int) -> None:
    for tokens in made_up_tokens(40):
        if tokens.chosen_TE.any():
            experts = linears(inputs, outputs, tokens.chosen_TE.shape[1])
            x_TI = x_of(tokens, inputs)
            assert_equal_to_plain(partial(grouped, tokens), partial(plainly, tokens), x_TI, tokens.weight_TE, experts)


def test_whole_ffns_are_the_plain_ones() -> None:
    for tokens in made_up_tokens(80):
        experts = whole_ffns(WIDTH, tokens.chosen_TE.shape[1])
        assert_equal_to_plain(partial(fast, tokens), partial(plainly, tokens), x_of(tokens), tokens.weight_TE, experts)


def test_only_experts_of_a_token_get_a_gradient() -> None:
    for tokens in made_up_tokens(70):
        for experts in (
            linears(WIDTH, OUTPUTS[0], tokens.chosen_TE.shape[1]),
            whole_ffns(WIDTH, tokens.chosen_TE.shape[1]),
        ):
            y_TO = fast(tokens, x_of(tokens).requires_grad_(), tokens.weight_TE, experts)
            if y_TO.requires_grad:  # not where there is only padding
                y_TO.sum().backward()
            assert used_experts(experts) == set(tokens.chosen_TE.any(dim=0).nonzero()[:, 0].tolist())


def test_a_token_that_is_not_finite_stays_in_its_row() -> None:
    for tokens in made_up_tokens(40)[24:]:
        for experts in (
            linears(WIDTH, OUTPUTS[0], tokens.chosen_TE.shape[1]),
            whole_ffns(WIDTH, tokens.chosen_TE.shape[1]),
        ):
            x_TI, bad = x_of(tokens), len(tokens.chosen_TE) // 2
            before_TO = fast(tokens, x_TI, tokens.weight_TE, experts)
            x_TI[bad] = float("nan")
            after_TO = fast(tokens, x_TI, tokens.weight_TE, experts)
            others_T = torch.arange(len(x_TI)) != bad
            assert torch.equal(before_TO[others_T], after_TO[others_T])
            assert bool(after_TO[bad].isnan().all()) == bool(tokens.chosen_TE[bad].any())
