"""Texts of samples: whole-word masking in the shares of the original, templates that keep their slot."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.tiny import tiny_codec
from uniperceiver.errors import UserError
from uniperceiver.records import Sample
from uniperceiver.streams import numpy_stream
from uniperceiver.tasks.candidates import TextCodec
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.text import masked, plain, templated


class Letters:
    """A text encoder in which a letter is a token and a word is a word: a = 0, b = 1, ..."""

    size, end, answer = 28, 26, 27

    def encode(self, text: str) -> list[int]:
        return [token for word in self.encode_words(text) for token in word]

    def encode_words(self, text: str) -> list[list[int]]:
        return [[ord(letter) - ord("a") for letter in word] for word in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join("." if token == 26 else "?" if token == 27 else chr(token + ord("a")) for token in ids)


CODEC: TextCodec = Letters()
# Words of 1 to 5 letters, every letter of a word the same: word lengths tell words apart.
WORDS = " ".join(letter * (1 + place % 5) for place, letter in enumerate("abcdefghijklmnopqrstuvwxyz"))


def test_plain_texts_are_cut_but_end() -> None:
    assert CODEC.decode(plain(CODEC, "ab cd", 9).ids) == "abcd."
    assert CODEC.decode(plain(CODEC, "ab cd", 4).ids) == "abc."
    assert plain(CODEC, "ab cd", 4).ask_at == ()


def test_a_template_around_a_text_that_is_read_keeps_all_its_words() -> None:
    assert CODEC.decode(plain(CODEC, "ab cd", 20, "see {text} now").ids) == "seeabcdnow."
    assert CODEC.decode(plain(CODEC, "ab cd", 9, "see {text} now").ids) == "seeabnow."


@pytest.mark.parametrize(
    ("first", "second", "room", "kept"),
    [
        ("aaaaaaaa", "bb", 6, "aaaabb"),
        ("aa", "bbbbbbbb", 6, "aabbbb"),
        ("aaaaaaaa", "bbbbb", 6, "aaabbb"),
        ("aaaaaaaa", "bbbbb", 7, "aaaabbb"),
        ("aaaa", "bbb", 7, "aaaabbb"),
        ("aaaa", "bbb", 6, "aaabbb"),
        ("aaaa", "bbb", 1, "a"),
    ],
)
def test_of_two_texts_the_longer_one_is_cut(first: str, second: str, room: int, kept: str) -> None:
    text, border = f"{first} {second}", len(first) + 1
    assert CODEC.decode(plain(CODEC, text, room + 1, second=border).ids) == f"{kept}."
    answer = templated(CODEC, "{text} is {answer}", text, room + 4, 3, border)
    assert CODEC.decode(answer.ids) == f"{kept}is?."


@pytest.mark.parametrize(
    ("name", "changes", "room"),
    [
        ("text_classification", {"template": "{text} {answer}"}, 6),
        ("text_classification", {"template": None, "read_at": "summary"}, 7),
        ("text_tagging", {"template": "{text} {answer}"}, 6),
        ("masked_language_modelling", {}, 7),
    ],
)
def test_a_task_cuts_the_longer_of_two_texts(name: str, changes: dict[str, Any], room: int) -> None:
    labels = (("a",), ("b",)) if CATALOGUE[name].answer.has_labels else ()
    task = replace(CATALOGUE[name], labels=labels, **changes)
    sample = Sample(id="two", text="aaaaaaaaa bbb", second=10, label=1)
    text = task.answer.asked(task, sample, CODEC, 8, numpy_stream(0), training=True).text
    assert text is not None
    seen = dict(enumerate(text.ids))
    if not labels:
        seen |= dict(zip(text.ask_at, text.target, strict=True))
    assert len(seen) == 8
    assert [token for token in seen.values() if token < 2] == [0] * (room - 3) + [1] * 3


def test_two_texts_that_fit_are_the_tokens_of_both_together() -> None:
    codec, text = tiny_codec(), "the red circle moves. a blue star, isn't it"
    for second in (text.index("moves"), text.index("a blue"), text.index("isn't")):
        assert plain(codec, text, 99, second=second) == plain(codec, text, 99)
        assert codec.encode(text)[: len(codec.encode(text[:second]))] == codec.encode(text[:second])


def restored(text: str, length: int, seed: int) -> tuple[list[int], list[int], dict[int, int]]:
    """Ids before masking (from the targets), after it, and the targets by position."""
    found = masked(CODEC, text, length, numpy_stream(seed))
    targets = dict(zip(found.ask_at, found.target, strict=True))
    return [targets.get(place, token) for place, token in enumerate(found.ids)], list(found.ids), targets


def test_masking_hides_15_percent_of_the_words_8_1_1() -> None:
    length = len(CODEC.encode(WORDS)) + 1
    original = [*CODEC.encode(WORDS), CODEC.end]
    words = [*CODEC.encode_words(WORDS), [CODEC.end]]
    starts = np.cumsum([0, *map(len, words)])
    kinds: Counter[str] = Counter()
    runs = 400
    for seed in range(runs):
        before, after, targets = restored(WORDS, length, seed)
        assert before == original
        for start, word in zip(starts, words, strict=False):
            places = range(start, start + len(word))
            asked = [place in targets for place in places]
            assert all(asked) or not any(asked)  # whole words only
            now = [after[place] for place in places]
            if not any(asked):
                assert now == word
            elif now == [CODEC.answer] * len(word):
                kinds["answer"] += 1
            elif now == word:
                kinds["kept"] += 1
            else:
                kinds["random"] += 1
    chosen, total = sum(kinds.values()), runs * len(words)
    assert abs(chosen / total - 0.15) < 4 * (0.15 * 0.85 / total) ** 0.5 + 0.002  # + texts where one had to be chosen
    for kind, share in (("answer", 0.8), ("random", 0.1), ("kept", 0.1)):
        # A random letter may be the right one, or <SPE>, by chance: 1 in 28.
        assert abs(kinds[kind] / chosen - share) < 4 * (share * (1 - share) / chosen) ** 0.5 + 0.1 / 28


def test_random_words_are_drawn_from_the_whole_vocabulary() -> None:
    drawn = Counter()
    for seed in range(600):
        before, after, _ = restored(WORDS, 100, seed)
        drawn.update(now for now, was in zip(after, before, strict=True) if now not in (was, CODEC.answer))
    assert set(drawn) == set(range(CODEC.size)) - {CODEC.answer}


def test_random_tokens_of_a_word_are_drawn_one_by_one() -> None:
    """Of five letters in a word that became others, hardly ever are all the same one."""
    alike = total = 0
    for seed in range(300):
        _, after, _ = restored(" ".join(["abcde"] * 20), 200, seed)
        for start in range(0, 100, 5):
            word = after[start : start + 5]
            if tuple(word) != (0, 1, 2, 3, 4) and CODEC.answer not in word:
                alike += len(set(word)) == 1
                total += 1
    assert total > 50
    assert alike <= 1


def test_the_end_of_each_line_is_a_word_that_can_be_asked_for() -> None:
    text = "ab cd\n\n  \nef"
    assert CODEC.decode(restored(text, 20, 0)[0]) == "abcd.ef."
    asked = set().union(*(restored(text, 20, seed)[2] for seed in range(60)))
    assert asked == set(range(8))


@pytest.mark.parametrize(("length", "expected"), [(5, "abcd."), (4, "abc."), (2, "a."), (1, "."), (9, "abcdef.")])
def test_a_long_text_is_cut_and_keeps_its_end(length: int, expected: str) -> None:
    for seed in range(5):
        before, after, targets = restored("ab cd ef", length, seed)
        assert CODEC.decode(before) == expected
        assert len(after) == len(expected)
        assert len(targets) >= 1  # there is always something to ask for


def test_masking_is_the_streams() -> None:
    texts = [masked(CODEC, WORDS, 100, numpy_stream(seed)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    ("template", "expected", "place"),
    [
        ("{text} it is {answer} x", "abcditis?x.", 8),
        ("it is {answer} for {text} x", "itis?forabcdx.", 4),
        ("{answer} {text}", "?abcd.", 0),
        (None, "abcd?.", 4),
    ],
)
def test_a_template_asks_at_its_answer(template: str | None, expected: str, place: int) -> None:
    found = templated(CODEC, template, "ab cd", 40, 3)
    assert CODEC.decode(found.ids) == expected
    assert found.ask_at == (place,)
    assert found.target == (3,)


@pytest.mark.parametrize("template", ["{text} it is {answer} x", "it is {answer} for {text} x", None])
def test_a_long_text_is_shortened_and_never_the_template(template: str | None) -> None:
    whole = templated(CODEC, template, "a", 99, 0)
    for length in range(len(whole.ids), 24):
        found = templated(CODEC, template, "a" * 50, length, 0)
        assert len(found.ids) == length
        assert found.ids.count(CODEC.answer) == 1
        assert found.ids[found.ask_at[0]] == CODEC.answer
        without_text = [token for token in found.ids if token != 0]
        assert without_text == [token for token in whole.ids if token != 0]


def test_braces_in_a_text_are_only_text() -> None:
    class Bytes(Letters):
        def encode_words(self, text: str) -> list[list[int]]:
            return [[ord(letter) % 26 for letter in word] for word in text.split()]

    text = "{answer} {text} {0} }"
    found = templated(Bytes(), "{answer} {text}", text, 99, 1)
    assert found.ids == (CODEC.answer, *Bytes().encode(text), CODEC.end)
    assert plain(Bytes(), text, 99, "see {text}").ids == (*Bytes().encode("see"), *Bytes().encode(text), CODEC.end)


def test_a_template_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(UserError, match="more than length 4"):
        templated(tiny_codec(), "a very long template it is {answer} {text}", "a dot", 4, 0)


def test_where_chance_chooses_no_word_one_is_drawn() -> None:
    """Three words: none is chosen in 61 % of the draws, and each must then be as likely as the others."""
    asked = Counter(place for seed in range(400) for place in masked(CODEC, "a b", 9, numpy_stream(seed)).ask_at)
    assert set(asked) == {0, 1, 2}
    assert max(asked.values()) < 1.3 * min(asked.values())


@pytest.mark.parametrize(
    ("length", "kept"), [(20, "aaa bb ccccc ddddd"), (9, "aaa b cccc"), (8, "aaa b ccc"), (5, "aa cc")]
)
def test_of_two_masked_texts_the_longer_one_is_cut(length: int, kept: str) -> None:
    text = "aaa bb ccccc ddddd"
    made = masked(CODEC, text, length, numpy_stream(0), text.index("c"))
    targets = dict(zip(made.ask_at, made.target, strict=True))
    whole = [targets.get(place, token) for place, token in enumerate(made.ids)]
    assert CODEC.decode(whole) == kept.replace(" ", "") + "."
