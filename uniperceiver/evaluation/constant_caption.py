"""The chance level of captions: the best single training caption, given to every image.

All scores are exact for every training caption that is tried: what a caption shares with the references is
looked up in tables by n-gram and by word, instead of being counted anew for each image.

Shape suffixes: K training captions, I images, R references, E entries of an n-gram table, G n-grams, X joined entries.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uniperceiver.evaluation.captions import (
    CAPTION_METRICS,
    References,
    bleu,
    closest_lengths,
    common_subsequence,
    divide,
    f_measure,
    flatten,
    guesses,
    inverse_document_frequency,
    length_penalty,
    word_masks,
)
from uniperceiver.evaluation.ngrams import Counts, Floats, Ints, most_per_group, same_ngram, split_counts
from uniperceiver.evaluation.ptb import words
from uniperceiver.streams import numpy_stream

Bits = NDArray[np.uint64]

_CHUNK = 64  # training captions whose (K, R) similarities are in memory together
_BITS = 64  # longest reference whose words fit into one machine word


@dataclass(frozen=True, kw_only=True)
class ConstantCaption:
    """What a model without eyes reaches in one metric."""

    metric: str
    score: float
    caption: str  # the words that every image was given


def best_constant_captions(
    training: Sequence[str], references: Sequence[Sequence[str]], *, seed: int = 0, most: int = 3000
) -> dict[str, ConstantCaption]:
    """For each metric the training caption that scores best as the answer for all images, which is the chance level.

    Of more than `most` different captions a seeded sample is tried. The score equals `score_captions` of that
    caption for each image. Raises ValueError: no training caption has a word, or no image, or one without references.
    """
    flat = flatten(references)
    different = sorted({tuple(words(caption)) for caption in set(training)} - {()})
    if not different:
        raise ValueError("chance: no training caption has a word; give the captions of the training split")
    if len(different) > most:
        chosen = numpy_stream(seed, "constant caption").choice(len(different), most, replace=False)
        different = [different[place] for place in sorted(chosen)]
    scores_K = dict(zip(CAPTION_METRICS, _scores(different, flat), strict=True))
    return {
        metric: ConstantCaption(metric=metric, score=float(scores.max()), caption=" ".join(different[scores.argmax()]))
        for metric, scores in scores_K.items()
    }


def _scores(captions: list[tuple[str, ...]], flat: References) -> tuple[Floats, Floats, Floats]:
    """BLEU-4, CIDEr-D and ROUGE-L, each (K,)."""
    length_K = np.array([len(caption) for caption in captions], np.int64)
    tables = split_counts(captions, flat.words_R)
    return (
        _bleu(tables, length_K, flat),
        _cider(tables, length_K, flat),
        _rouge(captions, flat),
    )


def _bleu(tables: list[tuple[Counts, Counts]], length_K: Ints, flat: References) -> Floats:
    correct_4K = []
    for mine, theirs in tables:
        most = most_per_group(theirs, flat.image_R)
        pairs = same_ngram(mine, most)
        common_X = np.minimum(mine.count_E[pairs.left_X], most.count_E[pairs.right_X])
        correct_4K.append(np.bincount(mine.row_E[pairs.left_X], common_X, len(length_K)))
    images = np.ones(len(flat.first_I), np.int64)
    closest = {length: closest_lengths(length * images, flat).sum() for length in np.unique(length_K)}
    closest_K = np.array([closest[length] for length in length_K])
    return bleu(np.stack(correct_4K, axis=1), guesses(length_K) * len(images), length_K * len(images), closest_K)


def _cider(tables: list[tuple[Counts, Counts]], length_K: Ints, flat: References) -> Floats:
    idf = [inverse_document_frequency(theirs, flat.image_R, len(flat.first_I)) for _, theirs in tables]
    weight_R = 10 / (flat.number_I[flat.image_R] * len(flat.first_I))  # the mean over references, then over images
    score_K = np.zeros(len(length_K))
    for start in range(0, len(length_K), _CHUNK):
        part = slice(start, min(start + _CHUNK, len(length_K)))
        similarity_KR = np.mean(
            [
                _cosines(mine.rows(part.start, part.stop), theirs, idf_G, (part.stop - start, len(weight_R)))
                for (mine, theirs), idf_G in zip(tables, idf, strict=True)
            ],
            axis=0,
        )
        score_K[part] = (similarity_KR * length_penalty(length_K[part, None], flat.length_R)) @ weight_R
    return score_K


def _cosines(mine: Counts, theirs: Counts, idf_G: Floats, shape: tuple[int, int]) -> Floats:
    """(K, R) clipped cosines of tf-idf vectors of one n-gram length."""
    mine_E, theirs_E = mine.count_E * idf_G[mine.gram_E], theirs.count_E * idf_G[theirs.gram_E]
    pairs = same_ngram(mine, theirs)
    product_X = np.minimum(mine_E[pairs.left_X], theirs_E[pairs.right_X]) * theirs_E[pairs.right_X]
    cell_X = mine.row_E[pairs.left_X] * shape[1] + theirs.row_E[pairs.right_X]
    norm_K = np.sqrt(np.bincount(mine.row_E, mine_E**2, shape[0]))
    norm_R = np.sqrt(np.bincount(theirs.row_E, theirs_E**2, shape[1]))
    product_KR = np.bincount(cell_X, product_X, shape[0] * shape[1]).reshape(shape)
    return divide(product_KR, norm_K[:, None] * norm_R)


def _rouge(captions: list[tuple[str, ...]], flat: References) -> Floats:
    places = _places(flat)
    length_R = flat.length_R
    score_K = np.zeros(len(captions))
    for place, caption in enumerate(captions):
        common_R = np.bitwise_count(~_rows(caption, places, len(length_R))).astype(np.int64)
        for long in np.flatnonzero(length_R > _BITS):
            common_R[long] = common_subsequence(word_masks(caption), flat.words_R[long])
        best_I = np.maximum.reduceat(common_R, flat.first_I)
        recall_I = np.maximum.reduceat(common_R / np.maximum(1, length_R), flat.first_I)
        score_K[place] = f_measure(best_I / len(caption), recall_I).mean()
    return score_K


def _places(flat: References) -> dict[str, tuple[Ints, Bits]]:
    """For each word the references of up to 64 words that have it, and the bits of its places in them."""
    found: dict[str, list[tuple[int, int]]] = {}
    for row, caption in enumerate(flat.words_R):
        if len(caption) <= _BITS:
            for word, bits in word_masks(caption).items():
                found.setdefault(word, []).append((row, bits))
    return {
        word: (np.array([row for row, _ in pairs]), np.array([bits for _, bits in pairs], np.uint64))
        for word, pairs in found.items()
    }


def _rows(caption: tuple[str, ...], places: dict[str, tuple[Ints, Bits]], references: int) -> Bits:
    """(R,) the state of `common_subsequence` after the caption, for all references at once.

    Bits beyond a reference's end stay 1: row - hit keeps them, whatever carries run through row + hit.
    """
    row_R = np.full(references, np.iinfo(np.uint64).max)
    for word in caption:
        if word in places:
            rows, bits = places[word]
            hit = row_R[rows] & bits
            row_R[rows] = (row_R[rows] + hit) | (row_R[rows] - hit)
    return row_R
