"""How often each n-gram occurs in each caption, as sorted arrays: the common ground of BLEU, CIDEr and ROUGE.

Shape suffixes: L captions, P words of all captions, U entries (an n-gram in a caption), G different n-grams, X joined
entries.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LONGEST = 4  # BLEU-4 and CIDEr-D count n-grams of one to four words


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Tokenized captions, one after the other; equal words have equal numbers in all of them."""

    word_P: Ints  # 0 .. G - 1, which are also the numbers of the unigrams
    caption_P: Ints
    place_P: Ints  # of the word in its caption, from 0
    length_L: Ints  # words per caption
    words: int  # how many different words are numbered, at least 1


@dataclass(frozen=True, kw_only=True)
class Counts:
    """A sparse table captions x n-grams of one length, sorted by caption, then n-gram."""

    row_U: Ints
    gram_U: Ints
    count_U: Ints
    grams: int  # how many different n-grams are numbered, at least 1

    def rows(self, start: int, stop: int) -> "Counts":
        """The captions from `start` to before `stop`, numbered from 0; n-grams keep their numbers."""
        first, last = np.searchsorted(self.row_U, (start, stop))
        part = slice(first, last)
        return Counts(
            row_U=self.row_U[part] - start, gram_U=self.gram_U[part], count_U=self.count_U[part], grams=self.grams
        )


@dataclass(frozen=True, kw_only=True)
class Index:
    """Entries of a table by n-gram, or by n-gram and group of captions: what others are joined with."""

    row_U: Ints
    grams: int
    order_U: Ints  # the entries sorted by key
    key_U: Ints  # group * grams + n-gram, sorted


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Entries of one table joined with entries of another that have the same n-gram (and group)."""

    left_X: Ints  # index into the entries of the left table, ascending
    right_X: Ints  # index into the entries of the indexed table


def number_words(captions: Sequence[Sequence[str]]) -> Corpus:
    """Number the words of tokenized captions."""
    number: dict[str, int] = {}
    word_P = np.array([number.setdefault(word, len(number)) for words in captions for word in words], np.int64)
    length_L = np.array([len(words) for words in captions], np.int64)
    return Corpus(
        word_P=word_P,
        caption_P=np.repeat(np.arange(len(captions)), length_L),
        place_P=spans(np.zeros_like(length_L), length_L),
        length_L=length_L,
        words=max(1, len(number)),
    )


def ngram_counts(corpus: Corpus) -> tuple[Counts, ...]:
    """For n = 1..4 the n-grams of the captions; equal n-grams have equal numbers in all captions."""
    left_P = corpus.length_L[corpus.caption_P] - corpus.place_P  # words from here to the caption's end
    counts = []
    gram_P = np.zeros_like(corpus.word_P)  # the number of the (n-1)-gram that begins at a position
    for n in range(1, LONGEST + 1):
        start = np.flatnonzero(left_P >= n)
        different, gram = np.unique(gram_P[start] * corpus.words + corpus.word_P[start + n - 1], return_inverse=True)
        grams = max(1, len(different))
        key_U, count_U = np.unique(corpus.caption_P[start] * grams + gram, return_counts=True)
        counts.append(Counts(row_U=key_U // grams, gram_U=key_U % grams, count_U=count_U, grams=grams))
        gram_P = np.zeros_like(corpus.word_P)
        gram_P[start] = gram
    return tuple(counts)


def most_per_group(counts: Counts, group_L: Ints) -> Counts:
    """The largest count of each n-gram within groups of captions (the references of an image), one row per group."""
    key_U = group_L[counts.row_U] * counts.grams + counts.gram_U
    key, inverse = np.unique(key_U, return_inverse=True)
    most = np.zeros(len(key), np.int64)
    np.maximum.at(most, inverse, counts.count_U)
    return Counts(row_U=key // counts.grams, gram_U=key % counts.grams, count_U=most, grams=counts.grams)


def index_by_ngram(row_U: Ints, gram_U: Ints, grams: int, group_L: Ints | None = None) -> Index:
    """Index entries (a caption and an n-gram each), also by the group of their caption if groups are given."""
    key_U = gram_U if group_L is None else group_L[row_U] * grams + gram_U
    order_U = np.argsort(key_U, kind="stable")
    return Index(row_U=row_U, grams=grams, order_U=order_U, key_U=key_U[order_U])


def same_ngram(gram_U: Ints, index: Index, group_U: Ints | None = None) -> Pairs:
    """Join each n-gram with all indexed entries that have it, in the same group if the index has groups."""
    key_U = gram_U if group_U is None else group_U * index.grams + gram_U
    first_U = np.searchsorted(index.key_U, key_U, side="left")
    repeats_U = np.searchsorted(index.key_U, key_U, side="right") - first_U
    return Pairs(left_X=np.repeat(np.arange(len(gram_U)), repeats_U), right_X=index.order_U[spans(first_U, repeats_U)])


def spans(first: Ints, length: Ints) -> Ints:
    """first[0], first[0] + 1, ... (length[0] numbers), then the same for the next one, and so on."""
    begin = np.cumsum(length) - length
    return np.arange(int(length.sum())) + np.repeat(first - begin, length)
