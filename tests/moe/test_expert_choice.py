"""Expert choice among the tokens of a batch, answers that are always served, and the mean as a read-out.

Shape suffixes: B sequences, N tokens of a sequence, T tokens of all sequences, D width, E experts.
"""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from benchmarks.parts import flat
from tests.moe_cases import inputs_of, moe_model, padded, some
from tests.tiny import tiny_model
from uniperceiver.errors import UserError
from uniperceiver.model.model import mean_token
from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.gate import expert_choice, expert_choice_of_batch, with_answers
from uniperceiver.moe.kernels.plain import plain
from uniperceiver.moe.layer import ExpertFeedForward
from uniperceiver.moe.lifted import MixtureRouter
from uniperceiver.records import Segment, Sequences
from uniperceiver.streams import torch_stream

FFN = {"where": "ffn", "level": "ffn", "k": 1, "layers": (1,), "experts": 6}


def chosen_plainly(probability_BNE: Tensor, valid_BN: Tensor, k: int, most: int) -> Tensor:
    """Which tokens each expert takes of each group, one after the other."""
    b, n, experts = probability_BNE.shape
    chosen_BNE = torch.zeros(b, n, experts, dtype=torch.bool)
    groups = math.ceil(b / max(1, most // n))
    rows = math.ceil(b / groups)
    for first in range(0, b, rows):
        places = [(s, t) for s in range(first, min(first + rows, b)) for t in range(n) if valid_BN[s, t]]
        room = max(1, math.ceil(k * len(places) / experts))
        for e in range(experts):
            best = sorted(places, key=lambda place: -float(probability_BNE[(*place, e)]))[:room]
            for place in best:
                chosen_BNE[(*place, e)] = True
    return chosen_BNE


@pytest.mark.parametrize("most", [1, 7, 20, 2048])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_experts_choose_among_whole_sequences_of_a_batch(k: int, most: int) -> None:
    for seed in range(8):
        stream = torch_stream(seed, "choice of a batch", k)
        b, n = (int(torch.randint(1, most, (), generator=stream)) for most in (8, 9))
        probability_BNE = torch.randn(b, n, 5, generator=stream).softmax(dim=2)
        valid_BN = torch.rand(b, n, generator=stream) < 0.7
        found_BNE = expert_choice_of_batch(probability_BNE, valid_BN, k, most)
        assert torch.equal(found_BNE, chosen_plainly(probability_BNE, valid_BN, k, most))
        everywhere = torch.ones_like(valid_BN)
        assert torch.equal(
            expert_choice_of_batch(probability_BNE, None, k, most), chosen_plainly(probability_BNE, everywhere, k, most)
        )


def test_a_group_of_one_sequence_is_the_choice_of_that_sequence() -> None:
    probability_BNE = torch.randn(3, 9, 4, generator=torch_stream(0, "p")).softmax(dim=2)
    assert torch.equal(expert_choice_of_batch(probability_BNE, None, 1, 9), expert_choice(probability_BNE, None, 1))


def test_short_texts_are_not_computed_by_every_expert() -> None:
    """40 candidates of three tokens and sixteen experts: 16 / 3 assignments of a token, or 1 of it in a batch."""
    probability_BNE = torch.randn(40, 3, 16, generator=torch_stream(0, "texts")).softmax(dim=2)
    assert int(expert_choice(probability_BNE, None, 1).sum()) == 40 * 16
    assert int(expert_choice_of_batch(probability_BNE, None, 1).sum()) == 16 * math.ceil(120 / 16)


def test_an_answer_that_nobody_took_goes_to_the_expert_it_likes_best() -> None:
    probability_BNE = torch.randn(4, 6, 3, generator=torch_stream(1, "answers")).softmax(dim=2)
    answer_BN = torch.zeros(4, 6, dtype=torch.bool)
    answer_BN[:, 0] = answer_BN[2, 4] = True
    nobody = torch.zeros(4, 6, 3, dtype=torch.bool)
    served = with_answers(nobody, probability_BNE, answer_BN)
    assert torch.equal(served.any(dim=2), answer_BN)
    assert torch.equal(served.float().argmax(dim=2)[answer_BN], probability_BNE.argmax(dim=2)[answer_BN])
    taken = nobody.clone()
    taken[0, 0, int(probability_BNE[0, 0].argmin())] = True
    assert torch.equal(with_answers(taken, probability_BNE, answer_BN)[0, 0], taken[0, 0])  # it is served already


def as_one_pass(inputs: Sequences, b: int, n: int, valid_BN: Tensor | None) -> ForwardContext:
    segment = Segment(start=0, stop=n, kind="text", causal=False, facts=inputs.facts)
    answer_BN = (torch.arange(n) == 0).expand(b, -1)
    return ForwardContext(
        sequences=b, length=n, segments=(segment,), device=torch.device("cpu"), valid_BN=valid_BN, answer_BN=answer_BN
    )


@pytest.mark.parametrize(("group", "serve"), [("sequence", True), ("batch", False), ("batch", True)])
def test_outputs_and_gradients_are_those_of_the_plain_loop(group: str, serve: bool) -> None:
    model = moe_model("expert_choice", group=group, serve_answer=serve, **FFN).double()
    ffn, (b, n), added = model.encoder.blocks[1].ffn, (5, 6), 0
    assert isinstance(ffn, ExpertFeedForward)
    valid_BN = torch.ones(b, n, dtype=torch.bool)
    valid_BN[1, 2:] = valid_BN[4, 1:] = False
    for seed in range(6):
        x_TD, dy_TD = (torch.randn(b * n, 16, generator=torch_stream(seed, name)).double() for name in ("x", "dy"))
        fast = ffn(x_TD.requires_grad_(), as_one_pass(inputs_of("vqa"), b, n, valid_BN))
        probability_TE = (x_TD @ ffn.router.gates[0].linear.weight.T).softmax(dim=1)
        p_BNE = probability_TE.detach().unflatten(0, (b, n))
        chosen_BNE = chosen_plainly(p_BNE, valid_BN, 1, 2048 if group == "batch" else n)
        for row in range(b) if serve else ():
            if not chosen_BNE[row, 0].any():
                chosen_BNE[row, 0, p_BNE[row, 0].argmax()] = True
                added += 1
        slow = plain(x_TD, probability_TE * chosen_BNE.flatten(0, 1), list(ffn.experts))
        torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
        leaves = [x_TD, *ffn.parameters()]
        for found, expected in zip(
            torch.autograd.grad(fast, leaves, dy_TD), torch.autograd.grad(slow, leaves, dy_TD), strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert bool(added) == serve


@pytest.mark.parametrize("kind", ["video_classification", "masked_language_modelling", "vqa"])
@pytest.mark.parametrize("group", ["sequence", "batch"])
def test_every_place_where_an_answer_is_read_is_served(group: str, kind: str) -> None:
    inputs, all_served = inputs_of(kind), {False: True, True: True}
    for seed, serve in itertools.product(range(8), all_served):
        model = moe_model("expert_choice", seed, group=group, serve_answer=serve, experts=3, k=1)
        answer_BN = answers_in(model, inputs)
        for decision in model.encode(inputs).decisions:
            served_BN = decision.chosen_TE.any(dim=1).unflatten(0, (3, -1))
            all_served[serve] &= bool(served_BN[answer_BN].all())
    assert all_served == {False: False, True: True}


def answers_in(model: nn.Module, inputs: Sequences) -> Tensor:
    """Where <SPE> stands in the sequences, found from their ids."""
    length = model.tokenizer(inputs).x_BND.shape[1]
    answer_BN = torch.zeros(3, length, dtype=torch.bool)
    answer_BN[:, 0] = True
    ids_BN = flat(inputs).ids_BN
    if ids_BN is not None:
        answer_BN[:, length - ids_BN.shape[1] :] = ids_BN == model.tokenizer.words.answer
    return answer_BN


def test_padding_changes_nothing_in_a_batch() -> None:
    model, inputs = moe_model("expert_choice", group="batch", serve_answer=True), inputs_of("vqa")
    for one, other in zip(model.encode(inputs).decisions, model.encode(padded(inputs, 3)).decisions, strict=True):
        assert torch.equal(one.chosen_TE[one.segment_T >= 0], other.chosen_TE[other.segment_T >= 0])
        assert not other.chosen_TE[other.segment_T < 0].any()


def test_in_a_batch_samples_compete() -> None:
    model, inputs = moe_model("expert_choice", group="batch"), inputs_of("vqa")
    together = model.encode(inputs).decisions[0].chosen_TE.unflatten(0, (3, -1))
    alone = [model.encode(some(inputs, [row])).decisions[0].chosen_TE for row in range(3)]
    assert any(not torch.equal(one, together[row]) for row, one in enumerate(alone))


@pytest.mark.parametrize("group", ["sequence", "batch"])
def test_captions_are_refused(group: str) -> None:
    model = moe_model("expert_choice", group=group, serve_answer=True)
    with pytest.raises(UserError, match=r"^moe: expert choice would let a word know of the words after it"):
        model.encode(inputs_of("image_captioning"))


def test_the_mean_is_over_tokens_and_not_over_padding() -> None:
    mean, usual = tiny_model(readout="mean"), tiny_model()
    inputs = inputs_of("vqa")
    tokens = usual.encode(inputs).x_BND
    valid_BN = usual.tokenizer(inputs).valid_BN
    assert valid_BN is not None
    expected = torch.stack([row[valid].mean(dim=0) for row, valid in zip(tokens, valid_BN, strict=True)])
    found = mean.encode(inputs, summary=True).x_BND
    assert found.shape == (3, 1, 16)
    torch.testing.assert_close(found[:, 0], expected)
    torch.testing.assert_close(mean.encode(padded(inputs, 4), summary=True).x_BND, found)
    assert torch.equal(mean.encode(inputs).x_BND, tokens)  # what is read in a text is read there
    assert torch.equal(mean_token(tokens, None)[:, 0], tokens.mean(dim=1))
    poisoned = torch.where(valid_BN[:, :, None], tokens, torch.nan)
    assert bool(mean_token(poisoned, valid_BN).isfinite().all())


def test_tokens_of_a_caller_have_no_answer() -> None:
    MixtureRouter(8, condition="expert_choice", group="batch", renormalise=False)
    with pytest.raises(UserError, match=r"^serve_answer: tokens of a caller have no <SPE>; leave it out$"):
        MixtureRouter(8, condition="expert_choice", serve_answer=True)
