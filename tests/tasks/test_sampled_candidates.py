"""The vocabulary as sampled candidates: on average the exact partition sum, with every target once."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.parts import flat
from tests.tiny import tiny_batch, tiny_codec, tiny_model, tiny_task
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.ask import ask, loss_terms
from uniperceiver.tasks.candidates import Candidates, sampled_candidates, vocabulary_candidates
from uniperceiver.tasks.loss import cross_entropy

FACTS = tiny_task("masked_language_modelling").facts("candidate")
END = 5
LOGIT_V = torch.tensor([0.3, -1.0, 2.0, 0.5, 1.5, -0.7])  # of one read-out
Q_V = torch.tensor([5.0, 1.0, 2.0, 4.0, 0.5, 3.0])
TARGET_R = torch.tensor([3, -1, 0, 3])


def draw(samples: int, stream: int = 0, target_R: Tensor = TARGET_R) -> Candidates:
    return sampled_candidates(target_R, Q_V, samples, torch_stream(stream), FACTS, END)


def words(candidates: Candidates) -> list[int]:
    assert flat(candidates.sequences).ids_BN[:, 1].tolist() == [END] * candidates.sequences.size
    assert flat(candidates.sequences).valid_BN is None
    return flat(candidates.sequences).ids_BN[:, 0].tolist()


def partition(candidates: Candidates) -> float:
    """The sum of exp(logit) over the drawn candidates."""
    return float((LOGIT_V[words(candidates)] + candidates.correction_K).double().exp().sum())


def test_the_expected_partition_sum_is_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly: every possible outcome of two draws, weighted by its probability."""
    others = [1, 2, 4, 5]
    total = float(Q_V[others].sum())
    expected = probability = 0.0
    for outcome in product(others, repeat=2):

        def drawn(weights: Tensor, count: int, *, outcome: Any = outcome, **options: Any) -> Tensor:
            assert weights.nonzero().flatten().tolist() == others
            assert count == 2
            assert options["replacement"] is True
            return torch.tensor(outcome)

        monkeypatch.setattr(torch, "multinomial", drawn)
        p = float(Q_V[outcome[0]] * Q_V[outcome[1]]) / total**2
        expected, probability = expected + p * partition(draw(2)), probability + p
    assert probability == pytest.approx(1.0)
    assert expected == pytest.approx(float(LOGIT_V.double().exp().sum()), rel=1e-6)


def test_draws_follow_the_proposal() -> None:
    """Over many real draws, too, the mean is the exact sum."""
    sums = torch.tensor([partition(draw(3, stream)) for stream in range(1500)])
    exact = float(LOGIT_V.exp().sum())
    assert abs(float(sums.mean()) - exact) < 4 * float(sums.std()) / len(sums) ** 0.5
    assert float(sums.std()) > 0.05 * exact
    assert partition(draw(200_000)) == pytest.approx(exact, rel=0.02)


def test_targets_enter_once_uncorrected_and_are_never_drawn() -> None:
    candidates = draw(50)
    assert sorted(words(candidates)) == list(range(6))  # duplicates are counted, not repeated
    assert words(candidates)[:2] == [0, 3]
    assert candidates.correction_K[:2].tolist() == [0.0, 0.0]
    assert candidates.target_R.tolist() == [1, -1, 0, 1]


def test_a_word_drawn_n_times_counts_n_times() -> None:
    q_V = Q_V.clone()
    q_V[[1, 2, 5]] = 1e-30  # only word 4 can be drawn beside the targets
    candidates = sampled_candidates(TARGET_R, q_V, 7, torch_stream(0), FACTS, END)
    assert words(candidates) == [0, 3, 4]
    assert candidates.correction_K[2].item() == pytest.approx(0.0, abs=1e-6)  # log 7 - log(7 x 1)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_the_proposal_may_have_any_sum(scale: float) -> None:
    scaled = sampled_candidates(TARGET_R, Q_V * scale, 5, torch_stream(0), FACTS, END)
    assert words(scaled) == words(draw(5))
    torch.testing.assert_close(scaled.correction_K, draw(5).correction_K)


def test_without_samples_only_the_targets_compete() -> None:
    candidates = draw(0)
    assert words(candidates) == [0, 3]
    assert candidates.correction_K.tolist() == [0.0, 0.0]


def test_an_unknown_target_is_no_candidate() -> None:
    """In particular not the first word, which is then drawn as any other."""
    candidates = draw(0, target_R=torch.tensor([3, -1, 2]))
    assert words(candidates) == [2, 3]
    assert candidates.target_R.tolist() == [1, -1, 0]
    drawn = draw(50, target_R=torch.tensor([3, -1, 2]))
    assert words(drawn)[:2] == [2, 3]
    assert sorted(words(drawn)[2:]) == [0, 1, 4, 5]


def test_when_every_word_is_a_target_the_sum_is_exact() -> None:
    candidates = draw(4, target_R=torch.tensor([5, 4, 3, 2, 1, 0, 0]))
    assert words(candidates) == list(range(6))
    assert not candidates.correction_K.any()
    assert candidates.target_R.tolist() == [5, 4, 3, 2, 1, 0, 0]


def test_without_known_targets_others_are_drawn() -> None:
    candidates = draw(4, target_R=torch.tensor([-1, -1]))
    assert candidates.target_R.tolist() == [-1, -1]
    assert len(words(candidates)) > 0


def test_the_stream_decides() -> None:
    assert words(draw(3, 1)) == words(draw(3, 1))
    assert len({tuple(words(draw(3, stream))) for stream in range(10)}) > 1


@pytest.mark.parametrize("name", ["masked_language_modelling", "image_captioning"])
def test_a_model_learns_from_them_as_from_the_whole_vocabulary(name: str) -> None:
    task, model, codec = tiny_task(name), tiny_model(), tiny_codec()
    batch = tiny_batch(task)
    q_V = torch.ones(codec.size)
    facts = task.facts("candidate")
    exact_RV = ask(model, task, batch, vocabulary_candidates(task, codec)).detach()
    sampled = sampled_candidates(batch.readout.target_R, q_V, 20, torch_stream(0), facts, codec.end)
    logits_RK = ask(model, task, batch, sampled)
    chosen = flat(sampled.sequences).ids_BN[:, 0]
    torch.testing.assert_close(logits_RK.detach(), exact_RV[:, chosen] + sampled.correction_K, atol=2e-5, rtol=0)
    sum(loss_terms(task, logits_RK, batch.readout, sampled).values()).backward()
    gradient_V = model.tokenizer.words.words.grad.abs().sum(dim=1)
    assert bool((gradient_V[chosen] > 0).all())
    never = torch.tensor(
        [word not in {*chosen.tolist(), *flat(batch.inputs).ids_BN.flatten().tolist()} for word in range(codec.size)]
    )
    never[[codec.end, codec.answer]] = False
    assert never.any()
    assert not gradient_V[never].any()
    many = sampled_candidates(batch.readout.target_R, q_V, 20_000, torch_stream(1), facts, codec.end)
    with torch.no_grad():
        estimate_R = ask(model, task, batch, many).logsumexp(dim=1)
    torch.testing.assert_close(estimate_R, exact_RV.logsumexp(dim=1), atol=0.1, rtol=0)


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_smoothing_spreads_over_the_whole_vocabulary(smoothing: float) -> None:
    """What it adds to the loss. Frequent words are drawn more often and stand for fewer: the plain mean is far off."""
    logit_V = torch.linspace(4.0, -4.0, 400)
    q_V = (logit_V / 2).exp()  # the model knows which words are frequent
    target_R = torch.tensor([3, -1, 40])

    def added(logits_RK: Tensor, target_R: Tensor, correction_K: Tensor | None = None) -> float:
        smoothed = cross_entropy(logits_RK, target_R, smoothing, correction_K)
        return float(smoothed - cross_entropy(logits_RK, target_R)) / smoothing

    exact = added(logit_V.repeat(3, 1), target_R)
    estimates, plain = [], []
    for stream in range(60):
        drawn = sampled_candidates(target_R, q_V, 80, torch_stream(stream), FACTS, END)
        logits_RK = (logit_V[words(drawn)] + drawn.correction_K).repeat(3, 1)
        estimates.append(added(logits_RK, drawn.target_R, drawn.correction_K))
        plain.append(added(logits_RK, drawn.target_R))
    assert sum(estimates) / 60 == pytest.approx(exact, abs=0.3)
    assert abs(sum(plain) / 60 - exact) > 1.0


def test_the_smoothing_of_a_task_knows_that_its_candidates_are_drawn() -> None:
    task = tiny_task("masked_language_modelling")
    readout = replace(tiny_batch(task).readout, target_R=TARGET_R)
    logits_RK = (LOGIT_V[words(draw(3))] + draw(3).correction_K).repeat(4, 1)
    terms = loss_terms(task, logits_RK, readout, draw(3), 0.3)
    expected = cross_entropy(logits_RK, draw(3).target_R, 0.3, draw(3).correction_K)
    assert torch.equal(terms["nll"], expected)
    assert not torch.equal(expected, cross_entropy(logits_RK, draw(3).target_R, 0.3))
