"""Balancing losses against plain formulas, finite differences and padding; the loss-free bias; their way to the total.

Shape suffixes: T tokens, V tokens without padding, E experts.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.parts import flat
from tests.moe_cases import inputs_of, moe_model, padded
from tests.small_run import small_recipe
from uniperceiver.data.mix import BatchMaker
from uniperceiver.moe import balance
from uniperceiver.moe.balance import LOSSES, balance_terms, global_entropy, moved_bias
from uniperceiver.moe.gate import probabilities, top_k
from uniperceiver.records import Decision, Facts, Segment
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.streams import torch_stream

FACTS = Facts(side="input", inputs=("visual", "text"), targets=("text",))
SEGMENTS = (
    Segment(start=0, stop=5, kind="visual", causal=False, facts=FACTS),
    Segment(start=5, stop=9, kind="text", causal=False, facts=FACTS),
)
LEAST = 3.0
LOSS_OF: dict[str, Callable[[Decision], Tensor]] = {
    **LOSSES,
    "global_entropy": lambda decision: global_entropy(decision, LEAST),
}


def decision_of(
    clean_TE: Tensor,
    *,
    k: int = 2,
    noise_TE: Tensor | None = None,
    segment_T: Tensor | None = None,
    scale: float = 0.25,
) -> Decision:
    """The decision of a gate with these logits."""
    logit_TE, probability_TE = probabilities(clean_TE, noise_TE)
    segment_T = torch.arange(len(clean_TE)) % 2 if segment_T is None else segment_T
    wanted_TE = torch.zeros_like(logit_TE, dtype=torch.bool).scatter(1, top_k(probability_TE, k), True)
    wanted_TE &= (segment_T >= 0)[:, None]
    return Decision(
        layer=0,
        part="ffn",
        segments=SEGMENTS,
        logit_TE=logit_TE,
        probability_TE=probability_TE,
        wanted_TE=wanted_TE,
        chosen_TE=wanted_TE,
        weight_TE=probability_TE * wanted_TE,
        noise_TE=noise_TE,
        noise_scale=scale,
        segment_T=segment_T,
    )


def random_decision(seed: int = 0, *, t: int = 24, e: int = 6, k: int = 2, double: bool = False) -> Decision:
    stream = torch_stream(seed, "balance", t, e)
    clean_TE, noise_TE = (torch.randn(t, e, generator=stream, dtype=torch.float64) for _ in range(2))
    segment_T = torch.randint(-1, 2, (t,), generator=stream)
    if not double:
        clean_TE, noise_TE = clean_TE.float(), noise_TE.float()
    return decision_of(clean_TE, k=k, noise_TE=0.25 * noise_TE, segment_T=segment_T)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_switch_loss_is_one_when_even_and_e_by_k_when_collapsed(k: int) -> None:
    t, e = 16, 8
    # Even: each expert is among the first k of as many tokens, and no probability differs from 1/E visibly.
    even_TE = torch.zeros(t, e)
    for token in range(t):
        even_TE[token, [(token * k + each) % e for each in range(k)]] = 1e-7
    assert float(balance.switch(decision_of(even_TE.double(), k=k))) == pytest.approx(1.0, abs=1e-6)
    collapsed_TE = torch.full((t, e), -60.0)
    collapsed_TE[:, :k] = 0.0
    assert float(balance.switch(decision_of(collapsed_TE, k=k))) == pytest.approx(e / k, abs=1e-6)
    assert 1.0 < float(balance.switch(decision_of(torch.arange(float(e)).expand(t, e), k=k))) < e / k


def importance_plainly(decision: Decision, valid: list[int]) -> float:
    """V-MoE's importance loss: of the softmax of the logits without noise."""
    total = [0.0] * decision.logit_TE.shape[1]
    for token in valid:
        logit = (decision.logit_TE - decision.noise_TE)[token].tolist()  # type: ignore[operator]
        whole = sum(map(math.exp, logit))
        total = [value + math.exp(each) / whole for value, each in zip(total, logit, strict=True)]
    return float(np.var(total) / np.mean(total) ** 2)


def load_plainly(decision: Decision, valid: list[int], k: int) -> float:
    """V-MoE's load loss: how probable each expert were among the first k if its noise alone were drawn anew."""
    total = [0.0] * decision.logit_TE.shape[1]
    for token in valid:
        noisy = decision.logit_TE[token].tolist()
        clean = (decision.logit_TE - decision.noise_TE)[token].tolist()  # type: ignore[operator]
        threshold = sorted(noisy)[-k]
        for expert, value in enumerate(clean):
            total[expert] += 0.5 * (1 + math.erf((value - threshold) / decision.noise_scale / 2**0.5))
    return float(np.var(total) / np.mean(total) ** 2)


def switch_plainly(decision: Decision, valid: list[int], k: int) -> float:
    e, loss = decision.logit_TE.shape[1], 0.0
    for expert in range(e):
        f = sum(expert in decision.logit_TE[token].topk(k).indices.tolist() for token in valid) / (k * len(valid))
        loss += e * f * sum(float(decision.logit_TE[token].softmax(dim=0)[expert]) for token in valid) / len(valid)
    return loss


def entropies_plainly(decision: Decision, *, of_the_mean: bool) -> list[float]:
    """By modality: the entropy of the mean probabilities, or the mean of the tokens' entropies."""
    assert decision.segment_T is not None
    found = []
    for segment in range(2):
        mine = decision.logit_TE.softmax(dim=1)[decision.segment_T == segment].double()
        rows = mine.mean(dim=0, keepdim=True) if of_the_mean else mine
        found.append(float(-(rows * rows.log()).sum() / len(rows)))
    return found


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_losses_equal_plain_formulas(seed: int, k: int) -> None:
    decision = random_decision(seed, k=k, double=True)
    valid = (decision.segment_T >= 0).nonzero()[:, 0].tolist()  # type: ignore[operator]
    assert 5 < len(valid) < 24
    hinge = [max(0.0, math.log(LEAST) - each) for each in entropies_plainly(decision, of_the_mean=True)]
    expected = {
        "switch": switch_plainly(decision, valid, k),
        "importance": importance_plainly(decision, valid),
        "load": load_plainly(decision, valid, k),
        "z": sum(float(decision.logit_TE[token].exp().sum().log()) ** 2 for token in valid) / len(valid),
        "local_entropy": sum(entropies_plainly(decision, of_the_mean=False)) / 2,
        "global_entropy": sum(hinge) / 2,
    }
    assert expected.keys() == LOSS_OF.keys()
    for name, value in expected.items():
        assert float(LOSS_OF[name](decision)) == pytest.approx(value, rel=1e-6, abs=1e-8), name


def test_a_modality_that_uses_enough_experts_costs_nothing() -> None:
    """LIMoE: relu(log S - H), of each modality by itself; fewer experts than S cost, more give nothing back."""
    logit_TE = torch.full((8, 4), -60.0)
    for token in range(0, 8, 2):  # visual: all four experts
        logit_TE[token, token // 2] = 0.0
    logit_TE[1::2, 0] = 0.0  # text: one
    decision = decision_of(logit_TE, k=1)
    assert float(global_entropy(decision, 2.0)) == pytest.approx((0.0 + math.log(2.0)) / 2, abs=1e-6)
    assert float(global_entropy(decision, 4.0)) == pytest.approx((0.0 + math.log(4.0)) / 2, abs=1e-6)
    assert float(balance.local_entropy(decision)) == pytest.approx(0.0, abs=1e-6)  # tokens are sure
    unsure = decision_of(torch.zeros(8, 4), k=1)
    assert float(balance.local_entropy(unsure)) == pytest.approx(math.log(4), abs=1e-6)
    assert float(global_entropy(unsure, 4.0)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", LOSS_OF)
def test_gradients_equal_finite_differences(name: str) -> None:
    for seed in range(3):
        stream = torch_stream(seed, "differences")
        clean_TE, noise_TE = (torch.randn(11, 5, generator=stream, dtype=torch.float64) for _ in range(2))
        segment_T = torch.tensor([0, 1, -1, 0, 0, 1, 1, -1, 0, 1, 0])
        clean_TE = clean_TE + 1.5 * torch.arange(5)  # uneven, so that every loss has a slope

        def loss(logit_TE: Tensor, noise_TE: Tensor = noise_TE, segment_T: Tensor = segment_T) -> Tensor:
            return LOSS_OF[name](decision_of(logit_TE, noise_TE=0.25 * noise_TE, segment_T=segment_T))

        given_TE = clean_TE.clone().requires_grad_()
        (gradient_TE,) = torch.autograd.grad(loss(given_TE), given_TE)
        assert not gradient_TE[segment_T < 0].any()
        assert float(gradient_TE.abs().max()) > 1e-3
        for token in range(11):
            for expert in range(5):
                step_TE = torch.zeros_like(clean_TE)
                step_TE[token, expert] = 1e-6
                slope = (loss(clean_TE + step_TE) - loss(clean_TE - step_TE)) / 2e-6
                torch.testing.assert_close(slope, gradient_TE[token, expert], atol=1e-4, rtol=0)


@pytest.mark.parametrize("condition", ["token", "context"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_padding_changes_no_loss(condition: str, share: float) -> None:
    model, inputs = moe_model(condition, gates=2), inputs_of("vqa")
    longer = padded(inputs, math.ceil(flat(inputs).ids_BN.shape[1] * share / (1 - share)) if share < 0.9 else 57)  # type: ignore[union-attr]
    with torch.no_grad():
        plain, more = (model.encode(each, torch_stream(0)).decisions for each in (inputs, longer))
    assert len(plain) == 8
    for one, other in zip(plain, more, strict=True):
        for name, loss in LOSS_OF.items():
            assert float(loss(other)) == pytest.approx(float(loss(one)), rel=2e-6, abs=1e-6), name


def test_terms_are_means_over_the_gates_that_decide_by_token() -> None:
    decisions = [random_decision(seed) for seed in range(3)]
    coefficients = {"switch": 0.5, "z": 0.0, "load": 2.0, "global_entropy": 0.1}
    terms = balance_terms(decisions, coefficients, LEAST)
    assert terms.keys() == {"switch", "load", "global_entropy"}
    for name, value in terms.items():
        mean = sum(float(LOSS_OF[name](each)) for each in decisions) / 3
        assert float(value) == pytest.approx(coefficients[name] * mean, rel=1e-5)
    nobody = torch.full((24,), -1)
    by_row = replace(decisions[0], segment_T=None)
    assert balance_terms([by_row, replace(decisions[0], segment_T=nobody)], coefficients, LEAST) == {}
    assert balance_terms([*decisions, by_row], coefficients, LEAST) == terms


def test_without_noise_loads_have_no_gradient() -> None:
    logit_TE = torch.randn(6, 4, requires_grad=True)
    (loss := balance.load(decision_of(logit_TE))).backward()
    assert loss.item() == 0.0
    assert not logit_TE.grad.any()  # type: ignore[union-attr]


def test_the_loss_free_bias_evens_the_loads() -> None:
    stream = torch_stream(0, "bias")
    probability_TE = (torch.randn(4000, 8, generator=stream) + 0.5 * torch.arange(8)).softmax(dim=1)
    bias_E = torch.zeros(8)
    for step in range(400):
        chosen_Tk = top_k(probability_TE, 2, bias_E)
        count_E = torch.bincount(chosen_Tk.flatten(), minlength=8)
        if step == 0:
            assert float(count_E.max()) > 3 * 1000
            assert float(count_E.min()) < 0.1 * 1000
        bias_E = moved_bias(bias_E, count_E, 0.002)
        assert float(bias_E.sum().abs()) < 1e-4
    assert float((count_E - 1000).abs().max()) < 0.2 * 1000
    assert torch.equal(moved_bias(bias_E, torch.full((8,), 5), 0.002), bias_E)


@pytest.mark.parametrize("name", LOSS_OF)
def test_the_terms_reach_the_gates_of_a_run(tmp_path: Path, name: str) -> None:
    gradients = []
    for coefficient in (0.0, 0.5):
        coefficients = {**dict.fromkeys(LOSS_OF, 0.0), name: coefficient}
        recipe = small_recipe(("relations",), moe={"condition": "token", "experts": 4, "balance": coefficients})
        run = prepare_run(recipe, tmp_path, tmp_path / str(coefficient), quiet=True)
        plan, batch, _ = BatchMaker(run.mixture)[run.mixture.plans(0, [0])[0]]
        run.state.consumed = [0]
        run._step([(plan, batch)])  # type: ignore[list-item]
        router = run.state.model.encoder.blocks[0].ffn.router
        gradients.append(router.gates[0].linear.weight.grad.clone())
    assert float((gradients[0] - gradients[1]).abs().max()) > 1e-3 * float(gradients[0].abs().max())


def test_what_gates_want_is_balanced_and_not_what_experts_had_room_for() -> None:
    """Capacity evens out what is computed: a loss that looks at it would see no collapse."""
    decision = decision_of(torch.tensor([[3.0, 2.0, 0.0, 0.0]]).repeat(8, 1))
    full_TE = decision.wanted_TE & (torch.arange(8) < 2)[:, None]
    assert torch.equal(balance.switch(replace(decision, chosen_TE=full_TE)), balance.switch(decision))
    some_TE = full_TE.clone()
    some_TE[:, 0] = False
    assert torch.equal(balance.switch(replace(decision, chosen_TE=some_TE)), balance.switch(decision))


def test_all_segments_of_a_modality_are_balanced_together() -> None:
    """A picture and a clip of one sample are two segments of what is seen."""
    clean_TE = 3 * torch.randn(9, 4, generator=torch_stream(0, "segments"))
    places = ((0, 2, "visual"), (2, 6, "visual"), (6, 9, "text"))
    parts = tuple(Segment(start=a, stop=b, kind=kind, causal=False, facts=FACTS) for a, b, kind in places)
    three = replace(
        decision_of(clean_TE, segment_T=torch.tensor([0] * 2 + [1] * 4 + [2] * 3)),
        segments=parts,
    )
    two = decision_of(clean_TE, segment_T=torch.tensor([0] * 6 + [1] * 3))
    assert float(global_entropy(two, 4.0)) > 0.0
    assert torch.equal(global_entropy(three, 4.0), global_entropy(two, 4.0))
    assert torch.equal(balance.local_entropy(three), balance.local_entropy(two))
