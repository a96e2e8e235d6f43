"""Our caption words against those of the COCO scorers' Java tokenizer."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from uniperceiver.evaluation.ptb import words

GOLDEN = Path(__file__).parents[1] / "golden" / "captions.json"


def test_words_equal_the_reference_tokenizer() -> None:
    for text, expected in json.loads(GOLDEN.read_text(encoding="utf-8"))["words"]:
        assert words(text) == expected, text


@given(st.text())
def test_any_text_becomes_lower_case_words_without_spaces(text: str) -> None:
    for word in words(text):
        assert word == word.lower()
        assert word.split() == [word]


def test_a_long_number_takes_no_quadratic_time() -> None:
    assert words("1" * 20_000 + "x") == ["1" * 20_000 + "x"]
