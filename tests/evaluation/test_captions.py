"""Caption scores against the reference scorers: stored values, and live where pycocoevalcap is installed."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uniperceiver.evaluation.captions import common_subsequence, score_captions
from uniperceiver.evaluation.ptb import words

GOLDEN = Path(__file__).parents[1] / "golden" / "captions.json"


def random_caption(draw: np.random.Generator, vocabulary: int, longest: int) -> str:
    return " ".join(f"w{word}" for word in draw.zipf(1.4, draw.integers(0, longest)) % vocabulary)


def lcs_plain(left: list[str], right: list[str]) -> int:
    row = [0] * (len(right) + 1)
    for a in left:
        above = row
        row = [0]
        for place, b in enumerate(right):
            row.append(above[place] + 1 if a == b else max(row[place], above[place + 1]))
    return row[-1]


def test_scores_of_200_captions_equal_the_reference() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    scores = score_captions([image[0] for image in golden["images"]], [image[1:] for image in golden["images"]])
    assert len(golden["images"]) == 200
    assert scores == pytest.approx(golden["scores"], abs=1e-9)


def test_scores_equal_the_reference_on_wild_lengths() -> None:
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu", reason="pycocoevalcap is not installed")
    cider = pytest.importorskip("pycocoevalcap.cider.cider")
    rouge = pytest.importorskip("pycocoevalcap.rouge.rouge")
    draw = np.random.default_rng(1)
    for _ in range(25):
        images, vocabulary, longest = (int(draw.integers(2, most)) for most in (15, 60, 70))
        candidates = [random_caption(draw, vocabulary, longest) for _ in range(images)]
        references = [
            [random_caption(draw, vocabulary, longest) or "x" for _ in range(draw.integers(1, 6))]
            for _ in range(images)
        ]
        truth = {at: [" ".join(words(text)) for text in each] for at, each in enumerate(references)}
        answers = {at: [" ".join(words(text))] for at, text in enumerate(candidates)}
        expected = {
            "bleu4": bleu.Bleu(4).compute_score(truth, answers, verbose=0)[0][3],
            "cider_d": cider.Cider().compute_score(truth, answers)[0],
            "rouge_l": rouge.Rouge().compute_score(truth, answers)[0],
        }
        assert score_captions(candidates, references) == pytest.approx(expected, abs=1e-9)


def test_a_perfect_answer_has_the_highest_scores_and_an_empty_one_none() -> None:
    references = [["a red dog runs fast"], ["two cats sit on one sofa"]]
    perfect = score_captions([texts[0] for texts in references], references)
    assert perfect == pytest.approx({"bleu4": 1, "cider_d": 10, "rouge_l": 1}, abs=1e-6)
    for nothing in ("", " ...", "\N{GRINNING FACE}"):
        assert score_captions([nothing, nothing], references) == pytest.approx(
            {"bleu4": 0, "cider_d": 0, "rouge_l": 0}, abs=1e-6
        )
    assert score_captions(["", ""], [[""], [""]])["rouge_l"] == 0


def test_one_image_warns_because_cider_means_nothing() -> None:
    with pytest.warns(UserWarning, match="single image"):
        assert score_captions(["a dog"], [["a dog"]])["cider_d"] == 0


@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [([], [], "no images"), (["a"], [], "1 candidates for 0"), (["a", "b"], [["a"], []], "image 1 has no reference")],
)
def test_wrong_corpora_are_refused(candidates: list[str], references: list[list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_captions(candidates, references)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(), st.lists(st.text(), min_size=1, max_size=3)), min_size=2, max_size=4))
def test_any_unicode_gives_scores_in_range(corpus: list[tuple[str, list[str]]]) -> None:
    scores = score_captions([candidate for candidate, _ in corpus], [texts for _, texts in corpus])
    for metric, most in (("bleu4", 1), ("cider_d", 10), ("rouge_l", 1)):
        assert math.isfinite(scores[metric])
        assert 0 <= scores[metric] <= most + 1e-9


@given(st.lists(st.sampled_from("abc"), max_size=80), st.lists(st.sampled_from("abc"), max_size=80))
def test_bit_parallel_subsequence_equals_the_table(left: list[str], right: list[str]) -> None:
    assert common_subsequence(left, right) == lcs_plain(left, right)
