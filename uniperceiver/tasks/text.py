"""Texts of samples as token ids: whole-word masking, templates with an answer slot, captions."""

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from uniperceiver.errors import UserError

if TYPE_CHECKING:
    from uniperceiver.tasks.candidates import TextCodec

T = TypeVar("T")

MASK_SHARE = 0.15  # of the words
ANSWER_SHARE, RANDOM_SHARE = 0.8, 0.1  # of the chosen words: <SPE>, random tokens; the rest stay


@dataclass(frozen=True, kw_only=True)
class Text:
    """One text part: ids, and what is asked of it."""

    ids: tuple[int, ...]
    ask_at: tuple[int, ...] = ()  # positions in the text that answer
    target: tuple[int, ...] = ()  # the right candidate at each of them, -1 where unknown


def plain(codec: "TextCodec", text: str, length: int, template: str = "{text}", second: int | None = None) -> Text:
    """A text that is only read; inside a longer template it is the text that is shortened.

    Args:
        second: where in the text a second one begins.
    """
    before, after = (codec.encode(part) for part in template.split("{text}"))
    room = max(length - 1 - len(before) - len(after), 0)
    return Text(ids=(*before, *fitted(codec, text, room, second), *after, codec.end))


def fitted(codec: "TextCodec", text: str, room: int, second: int | None = None) -> list[int]:
    """The ids of a text, at most `room` of them; of two texts the longer one is cut, token by token.

    Args:
        second: where in the text a second one begins.
    """
    ids = codec.encode(text)
    if second is None or len(ids) <= room:
        return ids[:room]
    return _longer_cut(ids, len(codec.encode(text[:second])), room)


def _longer_cut(tokens: list[T], border: int, room: int) -> list[T]:
    """The tokens of two texts for which there is room, the longer text cut; those of the second begin at `border`."""
    kept = min(len(tokens) - border, max(room - border, room // 2))  # of the second
    return [*tokens[: min(border, room - kept)], *tokens[border : border + kept]]


def masked(codec: "TextCodec", text: str, length: int, rng: np.random.Generator, second: int | None = None) -> Text:
    """Whole-word masking: 15 % of the words (the end token of each line is one) are asked for.

    Of these, 80 % become <SPE> at every token, 10 % random tokens, 10 % stay. At least one word is chosen. Source:
    the original release.

    Args:
        second: where in the text a second one begins.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    words = [word for line in lines for word in (*codec.encode_words(line), [codec.end])]
    words = _fit(words if second is None else _both(words, len(codec.encode(text[:second])), length), length)
    chosen = rng.random(len(words)) < MASK_SHARE
    if not chosen.any():
        chosen[rng.integers(len(words))] = True
    ids: list[int] = []
    ask_at: list[int] = []
    target: list[int] = []
    for word, is_chosen in zip(words, chosen, strict=True):
        if is_chosen:
            ask_at += range(len(ids), len(ids) + len(word))
            target += word
            ids += _disguise(word, codec, rng)
        else:
            ids += word
    return Text(ids=tuple(ids), ask_at=tuple(ask_at), target=tuple(target))


def _both(words: list[list[int]], border: int, length: int) -> list[list[int]]:
    """The words of two texts, of which the longer one is cut; the tokens of the second begin at `border`."""
    *words, end = words
    tokens = [(number, token) for number, word in enumerate(words) for token in word]
    room = length - len(end)
    if len(tokens) > room:
        tokens = _longer_cut(tokens, border, room)
    return [[token for _, token in group] for _, group in groupby(tokens, key=lambda pair: pair[0])] + [end]


def _fit(words: list[list[int]], length: int) -> list[list[int]]:
    """The first words that fit beside the last one, the end token; the word at the limit is cut."""
    *words, end = words
    kept, room = [], length - len(end)
    for word in words:
        if room <= 0:
            break
        kept.append(word[:room])
        room -= len(word)
    return [*kept, end]


def _disguise(word: list[int], codec: "TextCodec", rng: np.random.Generator) -> list[int]:
    kind = rng.random()
    if kind < ANSWER_SHARE:
        return [codec.answer] * len(word)
    if kind < ANSWER_SHARE + RANDOM_SHARE:
        return [int(token) for token in rng.integers(codec.size, size=len(word))]
    return word


def templated(
    codec: "TextCodec", template: str | None, text: str, length: int, target: int, second: int | None = None
) -> Text:
    """A template filled with a text; the answer is read at its {answer}, an <SPE> inside the text.

    The text is shortened, never the template, when the whole is longer than `length`.

    Args:
        second: where in the text a second one begins.

    Raises:
        UserError: the template alone is longer than that.
    """
    before, after = (template or "{text} {answer}").split("{answer}")
    parts = [*before.partition("{text}"), "{answer}", *after.partition("{text}")]
    fixed = [codec.encode(part) if part not in ("{text}", "{answer}") else [] for part in parts]
    room = length - 2 - sum(map(len, fixed))  # one each for <SPE> and the end token
    if room < 0:
        raise UserError(f"template {template!r} has {length - room} tokens, more than length {length}; shorten it")
    ids: list[int] = []
    place = 0
    for part, tokens in zip(parts, fixed, strict=True):
        if part == "{answer}":
            place = len(ids)
            ids.append(codec.answer)
        else:
            ids += fitted(codec, text, room, second) if part == "{text}" else tokens
    return Text(ids=(*ids, codec.end), ask_at=(place,), target=(target,))
