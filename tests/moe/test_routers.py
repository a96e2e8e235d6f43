"""Routers: decisions by row and by token, capacity in batch-prioritised order, experts that choose, left-out samples.

Shape suffixes: T tokens, B sequences, N tokens of a sequence, E experts, R rows, k choices, D width.
"""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks.parts import changed, flat
from tests.moe_cases import BY_ROW, inputs_of, moe_model, moe_of, padded, some
from uniperceiver.errors import UserError
from uniperceiver.model.model import Generalist
from uniperceiver.moe.gate import batch_priority, expert_choice, top_k
from uniperceiver.records import Decision, Sequences
from uniperceiver.streams import torch_stream


@torch.no_grad()
def decisions_of(
    model: Generalist, inputs: Sequences, stream: torch.Generator | None = None, *, summary: bool = False
) -> tuple[Decision, ...]:
    return model.encode(inputs, stream, summary=summary).decisions


@pytest.mark.parametrize("k", [1, 2, 4])
def test_each_token_has_its_k_experts_and_padding_none(k: int) -> None:
    inputs = inputs_of("vqa")
    for decision in decisions_of(moe_model("token", k=k, gates=2), inputs):
        assert decision.segment_T is not None
        valid_T = decision.segment_T >= 0
        assert int(valid_T.sum()) == 3 * 5 + int(flat(inputs).valid_BN.sum())  # type: ignore[union-attr]
        assert torch.equal(decision.wanted_TE.sum(dim=1), k * valid_T.long())
        assert torch.equal(decision.chosen_TE, decision.wanted_TE)
        assert not decision.weight_TE[~decision.chosen_TE].any()
        expected_TE = decision.probability_TE * decision.chosen_TE
        if k > 1:
            expected_TE = expected_TE / expected_TE.sum(dim=1, keepdim=True).clamp(min=1e-9)
        torch.testing.assert_close(decision.weight_TE, expected_TE)


@pytest.mark.parametrize(("condition", "rows"), [("attribute", 2), ("modality", 2), ("task", 1)])
def test_one_decision_for_each_row(condition: str, rows: int) -> None:
    for decision in decisions_of(moe_model(condition), inputs_of("vqa")):
        assert decision.logit_TE.shape == (rows, 4)
        assert decision.group_S == (0, rows - 1)
        assert decision.tokens_S is not None
        assert decision.tokens_S.tolist() == [15.0, 3 + 7 + 5]  # padding is not counted
        assert torch.equal(decision.wanted_TE.sum(dim=1), torch.full((rows,), 2))


def test_a_tasks_own_copy_is_not_decided() -> None:
    assert decisions_of(moe_model("task_specific"), inputs_of("vqa")) == ()


@pytest.mark.parametrize(("gates", "count"), [(1, 4), (2, 8)])
@pytest.mark.parametrize("condition", ["token", "context", "attribute"])
def test_a_gate_for_each_half_block_or_each_linear(condition: str, gates: int, count: int) -> None:
    found = decisions_of(moe_model(condition, gates=gates), inputs_of("vqa"))
    places = [(each.layer, each.part, each.gate) for each in found]
    assert places == [(layer, part, gate) for layer in (0, 1) for part in ("attention", "ffn") for gate in range(gates)]
    assert len(places) == count


@pytest.mark.parametrize("condition", ["token", "attribute"])
def test_whole_ffn_experts_are_chosen_once(condition: str) -> None:
    model = moe_model(condition, where="ffn", level="ffn", gates=2)
    assert len(decisions_of(model, inputs_of("vqa"))) == 2
    assert not any(".gates.1." in name for name, _ in model.named_parameters())


def priority_plainly(
    probability_TE: Tensor, expert_Tk: Tensor, valid_T: Tensor, factor: float
) -> list[tuple[int, int]]:
    """V-MoE's batch-prioritised order, one assignment after the other."""
    k, experts = expert_Tk.shape[1], probability_TE.shape[1]
    room = dict.fromkeys(range(experts), math.ceil(factor * k * int(valid_T.sum()) / experts))
    tokens = [token for token in range(len(valid_T)) if valid_T[token]]
    tokens.sort(key=lambda token: -float(probability_TE[token].max()))
    kept = []
    for choice in range(k):
        for token in tokens:
            expert = int(expert_Tk[token, choice])
            if room[expert]:
                room[expert] -= 1
                kept.append((token, choice))
    return kept


@pytest.mark.parametrize("factor", [0.25, 0.6, 1.0, 2.0, 100.0])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_capacity_takes_first_choices_first_and_the_surest_tokens_before_others(k: int, factor: float) -> None:
    for seed in range(20):
        stream = torch_stream(seed, "capacity", k)
        t, e = int(torch.randint(1, 30, (), generator=stream)), int(torch.randint(k, 7, (), generator=stream))
        probability_TE = (torch.randn(t, e, generator=stream) * 2 + torch.arange(e)).softmax(dim=1)
        valid_T = torch.rand(t, generator=stream) < 0.7
        expert_Tk = top_k(probability_TE, k)
        found_Tk = batch_priority(probability_TE, expert_Tk, valid_T, factor)
        kept = priority_plainly(probability_TE, expert_Tk, valid_T, factor)
        assert sorted(map(tuple, found_Tk.nonzero().tolist())) == sorted(kept)


def crowded(model: Generalist) -> Generalist:
    """The model, whose gates all prefer one expert."""
    for block in model.encoder.blocks:
        for router in (block.attention.router, block.ffn.router):
            for gate in router.gates:
                gate.linear.weight.data[2] += 0.5 * torch.ones_like(gate.linear.weight[2])
    return model


@pytest.mark.parametrize("training", [True, False])
def test_what_is_dropped_shows_in_the_decision(training: bool) -> None:
    settings = {"training_capacity": 0.5, "evaluation_capacity": 0.75, "noise": 0.0}
    model, stream = crowded(moe_model("token", **settings)), torch_stream(0) if training else None
    for decision in decisions_of(model, inputs_of("vqa"), stream):
        assert decision.segment_T is not None
        valid_T = decision.segment_T >= 0
        room = math.ceil((0.5 if training else 0.75) * 2 * int(valid_T.sum()) / 4)
        wanted_E, chosen_E = decision.wanted_TE.sum(dim=0), decision.chosen_TE.sum(dim=0)
        assert int(wanted_E.max()) > room
        assert torch.equal(chosen_E, wanted_E.clamp(max=room))
        assert not (decision.chosen_TE & ~decision.wanted_TE).any()
        assert not decision.weight_TE[~decision.chosen_TE].any()
        # What is left keeps its weight: a dropped expert's share is lost, as the residual stream carries the token.
        full_TE = decision.probability_TE * decision.wanted_TE
        full_TE = full_TE / full_TE.sum(dim=1, keepdim=True).clamp(min=1e-9)
        torch.testing.assert_close(decision.weight_TE, full_TE * decision.chosen_TE)


def test_candidates_are_never_dropped() -> None:
    model = crowded(moe_model("token", training_capacity=0.1, evaluation_capacity=0.1))
    inputs = inputs_of("masked_language_modelling")
    candidates = replace(inputs, facts=replace(inputs.facts, side="candidate"))
    for stream in (None, torch_stream(0)):
        dropped = decisions_of(model, inputs, stream)
        assert all(bool((each.wanted_TE & ~each.chosen_TE).any()) for each in dropped)
        assert all(torch.equal(each.wanted_TE, each.chosen_TE) for each in decisions_of(model, candidates, stream))


@pytest.mark.parametrize("more", [1, 5, 55])
def test_padding_takes_no_room(more: int) -> None:
    model = crowded(moe_model("token", training_capacity=0.5, evaluation_capacity=0.5))
    inputs = inputs_of("vqa")
    for stream in (False, True):
        plain, longer = (
            decisions_of(model, each, torch_stream(0) if stream else None) for each in (inputs, padded(inputs, more))
        )
        for one, other in zip(plain, longer, strict=True):
            assert one.segment_T is not None
            assert other.segment_T is not None
            valid_T, longer_T = one.segment_T >= 0, other.segment_T >= 0
            assert torch.equal(one.chosen_TE[valid_T], other.chosen_TE[longer_T])
            assert not other.chosen_TE[~longer_T].any()


@pytest.mark.parametrize("k", [1, 2, 4])
def test_each_expert_chooses_its_tokens_of_every_sequence(k: int) -> None:
    for seed in range(10):
        stream = torch_stream(seed, "choice", k)
        n = int(torch.randint(1, 20, (), generator=stream))
        probability_BNE = torch.randn(3, n, 4, generator=stream).softmax(dim=2)
        valid_BN = torch.rand(3, n, generator=stream) < 0.6
        valid_BN[seed % 4 : seed % 4 + 1] = False  # sometimes there is nothing but padding
        for valid in (valid_BN, None):
            chosen_BNE = expert_choice(probability_BNE, valid, k)
            for b in range(3):
                tokens = [t for t in range(n) if valid is None or valid_BN[b, t]]
                most = math.ceil(k * len(tokens) / 4)
                for e in range(4):
                    best = sorted(tokens, key=lambda t: -float(probability_BNE[b, t, e]))[: max(most, 1)]
                    assert sorted(chosen_BNE[b, :, e].nonzero()[:, 0].tolist()) == sorted(best)


def test_expert_choice_weighs_by_the_probability_and_looks_at_one_sequence() -> None:
    model, inputs = moe_model("expert_choice"), inputs_of("vqa")
    together = decisions_of(model, inputs)
    for decision in together:
        torch.testing.assert_close(decision.weight_TE, decision.probability_TE * decision.chosen_TE)
        assert decision.segment_T is not None
        assert not decision.chosen_TE[decision.segment_T < 0].any()
    for row in range(3):
        alone = decisions_of(model, some(inputs, [row]))
        for one, other in zip(alone, together, strict=True):
            assert torch.equal(one.chosen_TE, other.chosen_TE.unflatten(0, (3, -1))[row])


@pytest.mark.parametrize(
    ("condition", "settings", "what"),
    [
        ("expert_choice", {}, "expert choice"),
        ("token", {"training_capacity": 1.0}, "capacity"),
        ("token", {"evaluation_capacity": 2.0}, "capacity"),
        ("context", {"training_capacity": 1.0, "evaluation_capacity": 2.0}, "capacity"),
    ],
)
def test_what_would_see_the_future_is_refused(condition: str, settings: dict[str, float], what: str) -> None:
    model = moe_model(condition, **settings)
    with pytest.raises(UserError, match=f"moe: {what} would let a word know of the words after it.*use moe"):
        model.encode(inputs_of("image_captioning"))
    model.encode(inputs_of("vqa"))


@pytest.mark.parametrize("condition", ["token", "context", "expert_choice"])
def test_a_sample_that_is_left_out_changes_nothing_for_its_neighbours(condition: str) -> None:
    """Also where it was the longest, so that the others are padded less."""
    model, inputs, kept = moe_model(condition, gates=2, arch={"drop_path": 0.3}), inputs_of("vqa"), [0, 2]
    whole = model.encode(inputs, torch_stream(0))
    part = replace(some(inputs, kept), place_B=torch.tensor(kept), planned=3)
    shorter = changed(part, ids_BN=flat(part).ids_BN[:, :5], valid_BN=flat(part).valid_BN[:, :5])  # type: ignore[index]
    assert bool(flat(inputs).valid_BN[1].all())  # type: ignore[index]
    for fewer, n in ((part, 12), (shorter, 10)):
        found = model.encode(fewer, torch_stream(0))
        valid_BN = torch.nn.functional.pad(flat(fewer).valid_BN, (5, 0), value=True)  # type: ignore[arg-type]
        torch.testing.assert_close(found.x_BND[valid_BN], whole.x_BND[kept, :n][valid_BN], atol=1e-6, rtol=1e-5)
        for one, other in zip(found.decisions, whole.decisions, strict=True):
            assert one.noise_TE is not None
            assert other.noise_TE is not None
            noise_BNE = other.noise_TE.unflatten(0, (3, 12))
            assert torch.equal(one.noise_TE.unflatten(0, (2, n)), noise_BNE[kept, :n])


@pytest.mark.parametrize("condition", [*BY_ROW[:3], "token"])
def test_a_summary_alone_draws_the_noise_of_the_whole(condition: str) -> None:
    model, inputs = moe_model(condition, gates=2), inputs_of("vqa")
    whole, alone = (decisions_of(model, inputs, torch_stream(0), summary=summary) for summary in (False, True))
    assert alone[-1].logit_TE.shape[0] == (1 if condition in BY_ROW else 3)
    for one, other in zip(whole[-2:], alone[-2:], strict=True):
        first_TE = one.logit_TE[:1] if condition in BY_ROW else one.logit_TE.unflatten(0, (3, 12))[:, 0]
        torch.testing.assert_close(other.logit_TE, first_TE)


def test_the_bias_chooses_and_does_not_weigh() -> None:
    model = moe_model("token", selection_bias=True)
    for block in model.encoder.blocks:
        for router in (block.attention.router, block.ffn.router):
            router.gates[0].bias_E.copy_(torch.tensor([0.0, 3.0, 0.0, 0.0]))
    for decision in decisions_of(model, inputs_of("vqa")):
        assert decision.segment_T is not None
        valid_T = decision.segment_T >= 0
        assert bool(decision.chosen_TE[valid_T, 1].all())
        torch.testing.assert_close(decision.probability_TE, decision.logit_TE.softmax(dim=1))
        assert moe_of("token").selection_bias is False


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_the_spread_of_the_noise_is_told_with_it(noise: float) -> None:
    for decision in decisions_of(moe_model("token", noise=noise), inputs_of("vqa"), torch_stream(0)):
        assert decision.noise_TE is not None
        assert decision.segment_T is not None
        assert decision.noise_scale == noise / 4
        spread = float(decision.noise_TE[decision.segment_T >= 0].std())
        assert spread == pytest.approx(decision.noise_scale, rel=0.3)
