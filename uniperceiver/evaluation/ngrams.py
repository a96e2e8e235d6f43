"""How often each n-gram occurs in each caption, as sorted arrays: the common ground of BLEU and CIDEr.

Shape suffixes: S captions, E entries (an n-gram in a caption), G different n-grams, X expanded entries.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LONGEST = 4  # both scores count n-grams of one to four words


@dataclass(frozen=True, kw_only=True)
class Counts:
    """A sparse table captions x n-grams of one length, sorted by caption, then n-gram."""

    row_E: Ints
    gram_E: Ints
    count_E: Ints
    grams: int  # how many different n-grams are numbered, at least 1

    def rows(self, start: int, stop: int) -> "Counts":
        """The captions from `start` to before `stop`, numbered from 0; n-grams keep their numbers."""
        first, last = np.searchsorted(self.row_E, (start, stop))
        part = slice(first, last)
        return Counts(
            row_E=self.row_E[part] - start, gram_E=self.gram_E[part], count_E=self.count_E[part], grams=self.grams
        )


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Entries of one table joined with entries of another that have the same n-gram."""

    left_X: Ints  # index into the entries of the left table
    right_X: Ints  # index into the entries of the right table


def ngram_counts(captions: Sequence[Sequence[str]]) -> tuple[Counts, ...]:
    """For n = 1..4 the n-grams of tokenized captions; equal n-grams have equal numbers in all captions."""
    number: dict[str, int] = {}
    word_P = np.array([number.setdefault(word, len(number)) for words in captions for word in words], np.int64)
    length_S = np.array([len(words) for words in captions], np.int64)
    caption_P = np.repeat(np.arange(len(captions)), length_S)
    left_P = np.repeat(np.cumsum(length_S), length_S) - np.arange(len(word_P))  # words from here to the caption's end
    counts = []
    gram_P = np.zeros_like(word_P)  # the number of the (n-1)-gram that begins at a position
    for n in range(1, LONGEST + 1):
        start = np.flatnonzero(left_P >= n)
        different, gram = np.unique(gram_P[start] * max(1, len(number)) + word_P[start + n - 1], return_inverse=True)
        grams = max(1, len(different))
        key_E, count_E = np.unique(caption_P[start] * grams + gram, return_counts=True)
        counts.append(Counts(row_E=key_E // grams, gram_E=key_E % grams, count_E=count_E, grams=grams))
        gram_P = np.zeros_like(word_P)
        gram_P[start] = gram
    return tuple(counts)


def split_counts(left: Sequence[Sequence[str]], right: Sequence[Sequence[str]]) -> list[tuple[Counts, Counts]]:
    """For n = 1..4 a table of the captions on the left and one of those on the right, with common numbers."""
    tables = ngram_counts([*left, *right])
    return [(table.rows(0, len(left)), table.rows(len(left), len(left) + len(right))) for table in tables]


def most_per_group(counts: Counts, group_S: Ints) -> Counts:
    """The largest count of each n-gram within groups of captions (the references of an image), one row per group."""
    key_E = group_S[counts.row_E] * counts.grams + counts.gram_E
    key, inverse = np.unique(key_E, return_inverse=True)
    most = np.zeros(len(key), np.int64)
    np.maximum.at(most, inverse, counts.count_E)
    return Counts(row_E=key // counts.grams, gram_E=key % counts.grams, count_E=most, grams=counts.grams)


def entries_of(counts: Counts, row_X: Ints, gram_X: Ints) -> Ints:
    """The entry for each (caption, n-gram), -1 where that caption does not have the n-gram."""
    if not len(counts.row_E):
        return np.full(len(row_X), -1, np.int64)
    key_E, key_X = counts.row_E * counts.grams + counts.gram_E, row_X * counts.grams + gram_X
    place_X = np.minimum(np.searchsorted(key_E, key_X), len(key_E) - 1)
    return np.where(key_E[place_X] == key_X, place_X, -1)


def same_ngram(left: Counts, right: Counts) -> Pairs:
    """Every entry of `left` with every entry of `right` that has the same n-gram."""
    by_gram_E = np.argsort(right.gram_E, kind="stable")
    how_many_G = np.bincount(right.gram_E, minlength=right.grams)
    first_G = np.cumsum(how_many_G) - how_many_G
    repeats = how_many_G[left.gram_E]
    return Pairs(
        left_X=np.repeat(np.arange(len(left.gram_E)), repeats),
        right_X=by_gram_E[spans(first_G[left.gram_E], repeats)],
    )


def spans(first: Ints, length: Ints) -> Ints:
    """first[0], first[0] + 1, ... (length[0] numbers), then the same for the next one, and so on."""
    begin = np.cumsum(length) - length
    return np.arange(int(length.sum())) + np.repeat(first - begin, length)
