"""The tables of the constant caption against plain scoring of that caption."""

import numpy as np
import pytest

from uniperceiver.evaluation.captions import score_captions
from uniperceiver.evaluation.constant_caption import best_constant_captions


def random_caption(draw: np.random.Generator, longest: int) -> str:
    return " ".join(f"w{word}" for word in draw.zipf(1.4, draw.integers(1, longest)) % 30)


def test_best_caption_and_score_equal_scoring_each_caption() -> None:
    draw = np.random.default_rng(0)
    for longest in (8, 90):  # 90: references of more words than a machine word has bits
        references = [[random_caption(draw, longest) for _ in range(draw.integers(1, 5))] for _ in range(9)]
        training = [random_caption(draw, 12) for _ in range(70)]
        plain = {caption: score_captions([caption] * 9, references) for caption in training}
        best = best_constant_captions(training, references)
        for metric, found in best.items():
            assert found.score == pytest.approx(max(scores[metric] for scores in plain.values()), abs=1e-9)
            assert plain[found.caption][metric] == pytest.approx(found.score, abs=1e-9)


def test_each_caption_of_many_is_compared_with_long_references() -> None:
    """More captions than are compared together, of which the last one of the alphabet is the best."""
    references = [[" ".join(f"w{word}" for word in range(70))], ["a dog"]]
    training = [f"a{number}" for number in range(100, 170)] + ["x w0 w1 w2 w3"]
    found = best_constant_captions(training, references)["rouge_l"]
    assert found.caption == training[-1]
    assert found.score == pytest.approx(score_captions([training[-1]] * 2, references)["rouge_l"])


def test_sample_of_many_captions_is_seeded_and_never_better_than_all() -> None:
    draw = np.random.default_rng(1)
    references = [[random_caption(draw, 9)] for _ in range(5)]
    training = [random_caption(draw, 9) for _ in range(60)]
    some = best_constant_captions(training, references, seed=3, most=10)
    assert some == best_constant_captions(training[::-1], references, seed=3, most=10)
    for metric, found in best_constant_captions(training, references).items():
        assert some[metric].score <= found.score


def test_of_many_captions_others_are_tried_with_another_seed() -> None:
    """Not the first ones of the alphabet."""
    training = [f"{letter} dog runs" for letter in "abcdefghij"]
    references = [[f"{letter} dog runs"] for letter in "abcdefghij"]
    tried = {best_constant_captions(training, references, seed=seed, most=1)["bleu4"].caption for seed in range(8)}
    assert len(tried) > 2


def test_training_captions_without_words_score_nothing() -> None:
    for references in ([["a dog"]], [["\N{DOG FACE}"], ["..."]]):
        for constant in best_constant_captions(["", "...", "\N{DOG FACE}"], references).values():
            assert (constant.score, constant.caption) == (pytest.approx(0, abs=1e-6), "")


def test_of_equal_captions_the_first_of_the_alphabet_that_has_words_is_taken() -> None:
    """Also of those that are drawn."""
    training = ["...", *(f"{letter} cat" for letter in "jihgfedcba")]
    references = [["some dog"], ["another dog"]]
    for most, first in ((99, {"a cat"}), (9, {"a cat", "b cat"}), (8, {"a cat", "b cat", "c cat"})):
        for seed in range(6):
            best = best_constant_captions(training, references, seed=seed, most=most)
            assert {constant.caption for constant in best.values()} <= first
