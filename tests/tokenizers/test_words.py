"""Word tokens: the word's vector, its position, its kind."""

import pytest
import torch

from uniperceiver.errors import UserError
from uniperceiver.tokenizers.words import WordTokenizer

IDS = torch.tensor([[3, 1, 4, 1], [6, 0, 0, 0]])


def words() -> WordTokenizer:
    torch.manual_seed(0)
    return WordTokenizer(8, vocabulary=7, max_text=5, answer=6)


def test_a_token_is_word_plus_position_plus_kind() -> None:
    one = words()
    found = one(IDS, None)
    for b, row in enumerate(IDS.tolist()):
        for n, word in enumerate(row):
            torch.testing.assert_close(found[b, n], one.words[word] + one.positions[n] + one.kind)


def test_positions_may_be_given() -> None:
    one = words()
    assert torch.equal(one(IDS, torch.arange(4).expand(2, 4)), one(IDS, None))
    place = torch.tensor([[0, 1, 0, 1], [2, 4, 2, 4]])
    torch.testing.assert_close(one(IDS, place), one.words[IDS] + one.positions[place] + one.kind)


def test_the_prefix_is_the_answer_token_without_position_and_kind() -> None:
    one = words()
    assert torch.equal(one.prefix(3), one.words[6].expand(3, 1, 8))
    in_text = one(torch.tensor([[6]]), None)
    torch.testing.assert_close(in_text[0, 0], one.words[6] + one.positions[0] + one.kind)


def test_a_text_without_words_has_no_tokens() -> None:
    assert words()(IDS[:, :0], None).shape == (2, 0, 8)


def test_a_text_longer_than_the_table_is_refused_in_words() -> None:
    ids = torch.zeros(1, 6, dtype=torch.int64)
    assert words()(ids[:, :5], None).shape == (1, 5, 8)
    with pytest.raises(UserError, match="a text of 6 tokens is longer than the model's 5 text positions"):
        words()(ids, None)
