"""Retrieval recall, loss and chance with several captions per image, equal texts and ties."""

import math
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor

from uniperceiver.evaluation.retrieval import retrieval_chance, retrieval_hits, retrieval_loss

OWNER = torch.tensor([0, 0, 1, 1, 2])
TEXTS = ["a dog", "one dog", "a cat", "a dog", "a cow"]  # "a dog" is right for images 0 and 1


def retrieval_recall(similarity_IC: Tensor, owner_C: Tensor, *texts: Any, **options: Any) -> dict[str, float]:
    """Means of the hits."""
    hits = retrieval_hits(similarity_IC, owner_C, *texts, **options)
    return {name: float(each.mean()) for name, each in hits.items()}


def recall_plain(similarity: torch.Tensor, owner: list[int], texts: list[str], k: int) -> tuple[float, float]:
    has = [{text for text, image in zip(texts, owner, strict=True) if image == one} for one in range(len(similarity))]
    to_text = [any(texts[c] in has[i] for c in row.topk(k).indices) for i, row in enumerate(similarity)]
    to_image = [any(texts[c] in has[i] for i in column.topk(k).indices) for c, column in enumerate(similarity.T)]
    return sum(to_text) / len(to_text), sum(to_image) / len(to_image)


def test_recall_equals_plain_counting_for_any_chunk() -> None:
    owner = [*range(12), *range(12), 3, 5]
    texts = [f"text {number % 15}" for number in range(26)]
    similarity = torch.randn(12, 26, generator=torch.Generator().manual_seed(0))
    recall = retrieval_recall(similarity, torch.tensor(owner), texts)
    for k in (1, 5, 10):
        expected = recall_plain(similarity, owner, texts, k)
        assert (recall[f"i2t_recall@{k}"], recall[f"t2i_recall@{k}"]) == pytest.approx(expected)
    small = retrieval_hits(similarity, torch.tensor(owner), texts, chunk=5)
    assert {name: float(each.mean()) for name, each in small.items()} == pytest.approx(recall)


def test_equal_texts_are_right_for_each_image_that_has_them() -> None:
    similarity = torch.tensor([[0.0, 0, 0, 1, 0], [1.0, 0, 0, 0, 0], [0.0, 0, 0, 0, 1]])  # each finds the other's dog
    assert retrieval_recall(similarity, OWNER, TEXTS)["i2t_recall@1"] == 1
    assert retrieval_recall(similarity, OWNER)["i2t_recall@1"] == pytest.approx(1 / 3)


def test_constant_similarities_give_chance_and_nan_gives_nothing() -> None:
    for texts in (TEXTS, None):
        assert retrieval_recall(torch.ones(3, 5), OWNER, texts, ranks=(1, 2)) == pytest.approx(
            retrieval_chance(3, OWNER, texts, ranks=(1, 2))
        )
    assert set(retrieval_recall(torch.full((3, 5), torch.nan), OWNER).values()) == {0.0}


def hit_plain(scores: list[float], right: list[bool], k: int) -> float:
    """How often one of the best k is right, over all orders in which equal scores may come."""
    orders = list(permutations(range(len(scores))))
    hits = [any(right[c] for c in sorted(order, key=lambda c: -scores[c])[:k]) for order in orders]
    return sum(hits) / len(orders)


def test_ties_of_some_of_several_right_captions_equal_plain_counting() -> None:
    """Right ones below the tie, and wrong ones in it."""
    has = [{text for text, image in zip(TEXTS, OWNER.tolist(), strict=True) if image == one} for one in range(3)]
    similarity = torch.tensor([[2.0, 1, 2, 1, 2], [0.0, 0, 1, 0, 1], [2.0, 2, 1, 2, 2]])
    hits = retrieval_hits(similarity, OWNER, TEXTS, ranks=(1, 2, 3))
    for k in (1, 2, 3):
        to_text = [hit_plain(similarity[i].tolist(), [text in has[i] for text in TEXTS], k) for i in range(3)]
        to_image = [hit_plain(similarity[:, c].tolist(), [TEXTS[c] in has[i] for i in range(3)], k) for c in range(5)]
        assert hits[f"i2t_recall@{k}"].tolist() == pytest.approx(to_text)
        assert hits[f"t2i_recall@{k}"].tolist() == pytest.approx(to_image)


def test_a_single_nan_makes_its_row_and_its_column_miss() -> None:
    similarity = torch.zeros(3, 5)
    similarity[OWNER, torch.arange(5)] = 1.0
    assert all(bool(hit.all()) for hit in retrieval_hits(similarity, OWNER).values())
    similarity[1, 4] = torch.nan
    hits = retrieval_hits(similarity, OWNER)
    for k in (1, 5, 10):
        assert hits[f"i2t_recall@{k}"].tolist() == [1, 0, 1]
        assert hits[f"t2i_recall@{k}"].tolist() == [1, 1, 1, 1, 0]


def test_chance_by_hand() -> None:
    chance = retrieval_chance(4, torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]), ranks=(1, 2))
    missed = math.comb(6, 2) / math.comb(8, 2)
    assert chance == pytest.approx(
        {"i2t_recall@1": 2 / 8, "i2t_recall@2": 1 - missed, "t2i_recall@1": 1 / 4, "t2i_recall@2": 2 / 4}
    )
    shared = retrieval_chance(3, OWNER, TEXTS, ranks=(1,))
    assert shared == pytest.approx({"i2t_recall@1": (3 + 3 + 1) / 15, "t2i_recall@1": (2 + 1 + 1 + 2 + 1) / 15})


def test_loss_shares_the_target_among_the_right_candidates() -> None:
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    right = torch.tensor([[1, 1, 0, 1, 0], [1, 0, 1, 1, 0], [0, 0, 0, 0, 1.0]])
    to_text = torch.nn.functional.cross_entropy(logits, right / right.sum(1, keepdim=True))
    to_image = torch.nn.functional.cross_entropy(logits.T, (right / right.sum(0)).T)
    assert retrieval_loss(logits, OWNER, TEXTS).item() == pytest.approx((to_text + to_image).item(), abs=1e-6)


@pytest.mark.parametrize(
    ("owner", "texts", "message"),
    [
        ([0, 0, 1, 1, 1], None, "image 2 has no caption"),
        ([0, 1, 2, 3, 0], None, r"0\.\.2"),
        ([0, 1, 2], ["a"], "1 texts"),
    ],
)
def test_wrong_owners_are_refused(owner: list[int], texts: list[str] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval_recall(torch.zeros(3, 5), torch.tensor(owner), texts)
