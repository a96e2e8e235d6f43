"""Losses against formulas written out in plain Python."""

import pytest
import torch
from torch import Tensor

from uniperceiver.streams import torch_stream
from uniperceiver.tasks.loss import contrastive, cross_entropy, soft_cross_entropy

R, K = 4, 6


def some_logits(rows: int = R, columns: int = K) -> Tensor:
    return 5 * torch.randn(rows, columns, generator=torch_stream(0, "loss", rows, columns))


def log_p(logits_RK: Tensor) -> list[list[float]]:
    """log softmax by its definition, in float64."""
    p_RK = logits_RK.double().exp() / logits_RK.double().exp().sum(dim=1, keepdim=True)
    return p_RK.log().tolist()


def smoothed(row: list[float], target: int, smoothing: float) -> float:
    """OFFICIAL.md, section 7: (1 - eps) * NLL + eps * mean over the classes of -log p."""
    return (1 - smoothing) * -row[target] + smoothing * -sum(row) / len(row)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_cross_entropy_with_smoothing(smoothing: float) -> None:
    target = [2, 0, 5, 2]
    plain = sum(smoothed(row, t, smoothing) for row, t in zip(log_p(some_logits()), target, strict=True)) / R
    assert cross_entropy(some_logits(), torch.tensor(target), smoothing).item() == pytest.approx(plain, rel=1e-5)
    one_hot = torch.nn.functional.one_hot(torch.tensor(target), K).float()
    assert soft_cross_entropy(some_logits(), one_hot, smoothing).item() == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_unknown_targets_count_neither_above_nor_below(smoothing: float) -> None:
    logits_RK = some_logits().requires_grad_()
    found = cross_entropy(logits_RK, torch.tensor([-1, 3, -1, 1]), smoothing)
    known = cross_entropy(logits_RK[[1, 3]], torch.tensor([3, 1]), smoothing)
    assert found.item() == pytest.approx(known.item(), rel=1e-6)
    found.backward()
    assert not logits_RK.grad[[0, 2]].any()
    assert logits_RK.grad[[1, 3]].all()


def test_without_any_known_target_there_is_nothing_to_learn() -> None:
    logits_RK = some_logits().requires_grad_()
    loss = cross_entropy(logits_RK, torch.full((R,), -1), 0.1)
    loss.backward()
    assert loss.item() == 0.0
    assert not logits_RK.grad.any()


def test_soft_targets() -> None:
    soft_RK = torch.rand(R, K, generator=torch_stream(1)).softmax(dim=1)
    rows = zip(log_p(some_logits()), soft_RK.tolist(), strict=True)
    plain = sum(-sum(t * value for t, value in zip(soft, row, strict=True)) for row, soft in rows) / R
    assert soft_cross_entropy(some_logits(), soft_RK).item() == pytest.approx(plain, rel=1e-5)


def test_losses_in_16_bit_are_computed_in_float32() -> None:
    logits_RK, target_R = some_logits().bfloat16(), torch.tensor([0, 1, 2, 3])
    assert cross_entropy(logits_RK, target_R).item() == cross_entropy(logits_RK.float(), target_R).item()
    soft_RK = torch.nn.functional.one_hot(target_R, K).float()
    assert soft_cross_entropy(logits_RK, soft_RK).item() == soft_cross_entropy(logits_RK.float(), soft_RK).item()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_retrieval_is_asked_in_both_directions(smoothing: float) -> None:
    logits_BB = some_logits(4, 4)
    terms = contrastive(logits_BB, torch.eye(4), smoothing)
    for name, each in (("to_candidate", logits_BB), ("to_input", logits_BB.T)):
        plain = sum(smoothed(row, b, smoothing) for b, row in enumerate(log_p(each))) / 4
        assert terms[name].item() == pytest.approx(plain, rel=1e-5)
    assert terms["to_candidate"].item() != pytest.approx(terms["to_input"].item())


def test_right_candidates_share_the_target_equally() -> None:
    # Rows 0 and 2 have the same text; candidate 3 is right for row 2, too (and not the other way round).
    same_BB = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 1], [0, 0, 0, 1]])
    logits_BB = some_logits(4, 4)
    terms = contrastive(logits_BB, same_BB)
    for name, each, right in (
        ("to_candidate", logits_BB, [[0, 2], [1], [0, 2, 3], [3]]),
        ("to_input", logits_BB.T, [[0, 2], [1], [0, 2], [2, 3]]),
    ):
        rows = zip(log_p(each), right, strict=True)
        plain = sum(-sum(row[k] for k in those) / len(those) for row, those in rows) / 4
        assert terms[name].item() == pytest.approx(plain, rel=1e-5)


def test_equal_texts_are_not_pushed_apart() -> None:
    """With equal logits for two equal texts the loss is at its least: no gradient between them."""
    logits_BB = torch.full((2, 2), 3.0, requires_grad=True)
    sum(contrastive(logits_BB, torch.ones(2, 2)).values()).backward()
    assert logits_BB.grad.abs().max() < 1e-7
