"""Classification metrics on cases small enough to count by hand, and their behaviour under ties and NaN."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from uniperceiver.evaluation.metrics import (
    confusion,
    f1,
    hit_probability,
    majority_share,
    matthews,
    perplexity,
    top_k_hits,
)

SCORES = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])


def accuracy_at_k(scores_NK: Tensor, target_N: Tensor, k: int = 1) -> float:
    """Mean of the hits."""
    return float(top_k_hits(scores_NK, target_N, k).mean())


def test_accuracy_counts_the_k_best() -> None:
    target = torch.tensor([1, 1, 0])
    assert [accuracy_at_k(SCORES, target, k) for k in (1, 2, 3, 5)] == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert top_k_hits(SCORES, target, 2).tolist() == [1, 1, 0]


@pytest.mark.parametrize("k", [1, 5])
def test_constant_scores_have_the_accuracy_of_chance(k: int) -> None:
    assert accuracy_at_k(torch.zeros(4, 20), torch.tensor([0, 3, 7, 19]), k) == pytest.approx(k / 20)


def test_tie_at_the_border_counts_in_part_and_nan_not_at_all() -> None:
    assert accuracy_at_k(torch.tensor([[3.0, 1, 1, 1]]), torch.tensor([2]), 2) == pytest.approx(1 / 3)
    assert accuracy_at_k(torch.full((2, 4), torch.nan), torch.tensor([0, 1]), 3) == 0


def test_hit_probability_equals_random_rankings() -> None:
    draw = np.random.default_rng(0)
    for above, tied, right, k in ((0, 6, 2, 3), (1, 4, 1, 3), (2, 3, 2, 2), (0, 3, 3, 1), (1, 2, 1, 9)):
        orders = draw.permuted(np.tile(np.arange(tied), (4000, 1)), axis=1)[:, : max(0, k - above)]
        found = hit_probability(torch.tensor([above]), torch.tensor([tied]), torch.tensor([right]), k)
        assert found.item() == pytest.approx((orders < right).any(1).mean(), abs=0.03)


def test_wrong_targets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.\.2"):
        accuracy_at_k(SCORES, torch.tensor([0, 1, 3]))


def test_perplexity_of_a_uniform_guess_is_the_number_of_words() -> None:
    assert perplexity(math.log(2000)) == pytest.approx(2000)
    assert perplexity(1e6) == math.inf


def test_f1_and_matthews_by_hand() -> None:
    target, predicted = torch.tensor([1, 1, 1, 0, 0, 0, 0]), torch.tensor([1, 1, 0, 0, 0, 0, 1])
    table = confusion(predicted, target, 2)
    assert table.tolist() == [[3, 1], [1, 2]]
    assert f1(table) == pytest.approx(2 * 2 / (3 + 3))
    assert matthews(table) == pytest.approx((2 * 3 - 1 * 1) / math.sqrt(3 * 3 * 4 * 4))


def test_more_classes_use_macro_f1_and_the_general_matthews() -> None:
    table = np.array([[2, 0, 0], [1, 1, 0], [0, 0, 0]])
    # The third class neither occurs nor is answered: scikit-learn 1.9 leaves it out of f1_score(average="macro").
    assert f1(table) == pytest.approx((2 * 2 / 5 + 2 * 1 / 3) / 2)
    # scikit-learn 1.9: matthews_corrcoef([0, 0, 1, 1], [0, 0, 0, 1])
    assert matthews(table) == pytest.approx(0.5773502691896258)


def test_one_answer_for_all_has_no_correlation() -> None:
    assert matthews(np.array([[5, 0], [3, 0]])) == 0


def test_majority_share_counts_the_most_frequent_target() -> None:
    assert majority_share([3, 1, 3, 2]) == 0.5
    assert majority_share(iter("aab")) == pytest.approx(2 / 3)


def test_no_targets_are_refused() -> None:
    with pytest.raises(ValueError, match="no targets"):
        majority_share([])


def test_rows_of_the_confusion_matrix_are_the_right_classes() -> None:
    table = confusion(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 1, 1]), 3)
    assert table.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]
