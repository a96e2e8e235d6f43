"""BLEU-4, CIDEr-D and ROUGE-L as the COCO scorers (coco-caption, pycocoevalcap) compute them.

There are two uses: each image has a caption of its own (a model's), or one caption is given to all images (chance, see
`constant_caption`). Both are answer sets: which caption each image gets. What a caption shares with the references is
looked up in tables by n-gram, never counted anew for a pair.

Shape suffixes: K captions that are scored, I images, J references of all images in order of the images, A answer sets,
G n-grams, U entries of an n-gram table, X joined entries, 4 the n-gram lengths 1..4, ... any leading dimensions.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uniperceiver.evaluation.ngrams import (
    LONGEST,
    Corpus,
    Counts,
    Floats,
    Index,
    Ints,
    Pairs,
    index_by_ngram,
    most_per_group,
    ngram_counts,
    number_words,
    same_ngram,
)
from uniperceiver.evaluation.ptb import words

CAPTION_METRICS = ("bleu4", "cider_d", "rouge_l")
_SIGMA = 6.0  # width of CIDEr-D's length penalty
_BETA = 1.2  # weight of recall in ROUGE-L
_BITS = 64  # longest reference whose words fit into one machine word


@dataclass(frozen=True, kw_only=True)
class CaptionStatistics:
    """What the scores of any (re)sample of the images are made of; document frequencies stay those of all images.

    All have leading dimensions (A,) where several answer sets are scored.
    """

    correct_I4: Ints  # clipped n-gram matches
    guess_I4: Ints  # n-grams of the caption
    length_I: Ints  # words of the caption
    closest_I: Ints  # words of the reference whose length is closest, the shorter one of two
    cider_I: Floats  # >= 0, 10 at most
    rouge_I: Floats  # 0..1


def score_captions(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Score one candidate per image against its references: bleu4 (0..1), cider_d (0..10) and rouge_l (0..1).

    Raises:
        ValueError: no image, an image without references, or unequal numbers of candidates and images.
    """
    return caption_scores(caption_statistics(candidates, references))


def caption_statistics(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionStatistics:
    """Score every image once; an empty candidate scores 0. Warns when there is only one image.

    Raises:
        ValueError: as `score_captions`.
    """
    if len(candidates) != len(references):
        raise ValueError(f"captions: {len(candidates)} candidates for {len(references)} images; give one per image")
    tables = CaptionTables.of([words(candidate) for candidate in candidates], references, constant=False)
    if len(candidates) == 1:
        warnings.warn("CIDEr-D of a single image is 0: all its words are in every document", stacklevel=2)
    statistics = answer_statistics(tables, 0, len(candidates))
    return CaptionStatistics(**{name: values[0] for name, values in vars(statistics).items()})


def caption_scores(statistics: CaptionStatistics) -> dict[str, float]:
    """The three scores of a corpus."""
    return {metric: float(score) for metric, score in answer_scores(statistics).items()}


def bleu(correct: np.ndarray, guess: np.ndarray, length: np.ndarray, closest: np.ndarray) -> Floats:
    """Corpus BLEU-4 from sums (..., 4), (..., 4), (...), (...) over images (Papineni et al. 2002, eq. 3).

    The small constants are those of coco-caption's bleu_scorer.py: no match at all gives almost 0, never NaN.
    """
    small, tiny = 1e-9, 1e-15
    precision = np.prod((correct + tiny) / (guess + small), axis=-1) ** (1 / correct.shape[-1])
    ratio = (length + tiny) / (closest + small)
    return precision * np.exp(np.minimum(0, 1 - 1 / ratio))


def common_subsequence(caption: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence of two captions of any length.

    Bit-parallel (Hyyro 2004, "Bit-parallel LCS-length computation revisited"): bits that become 0 count.
    """
    mask: dict[str, int] = {}  # the bits of the places where a word stands
    for place, word in enumerate(caption):
        mask[word] = mask.get(word, 0) | 1 << place
    full = row = (1 << len(caption)) - 1
    for word in other:
        if bits := mask.get(word):
            hit = row & bits
            row = (row + hit) | (row - hit)
    return full.bit_count() - (row & full).bit_count()


@dataclass(frozen=True, kw_only=True)
class _NgramTables:
    """Of one n-gram length: the captions' counts, and what they are compared with."""

    counts: Counts  # of the captions
    idf_G: Floats
    weight_U: Floats  # tf-idf of the references' entries
    norm_J: Floats
    references: Index
    most_U: Ints  # the largest count of an n-gram in a reference of an image
    images: Index  # of these


@dataclass(frozen=True, kw_only=True)
class CaptionTables:
    """Captions and references, tokenized and counted, ready to be compared."""

    constant: bool  # every caption is for all images; else caption k is for image k
    words_K: Sequence[Sequence[str]]
    words_J: list[list[str]]
    corpus: Corpus  # of the captions, then the references
    length_J: Ints
    image_J: Ints  # which image a reference belongs to, ascending
    first_I: Ints  # the first reference of each image
    number_I: Ints  # how many references each image has, at least 1
    ngrams: tuple[_NgramTables, ...]  # for n = 1..4
    place_U: NDArray[np.uint64]  # of a word in a reference of up to 64 words: the bits of its places
    places: Index  # of these

    @staticmethod
    def of(words_K: Sequence[Sequence[str]], references: Sequence[Sequence[str]], *, constant: bool) -> "CaptionTables":
        """Tokenize the references (per image) and count; captions are given as words.

        Raises:
            ValueError: no image, or an image without references.
        """
        number_I = np.array([len(texts) for texts in references], np.int64)
        if not len(number_I):
            raise ValueError("captions: no images to score")
        if not number_I.all():
            raise ValueError(f"captions: image {int(np.argmin(number_I))} has no reference caption; leave it out")
        words_J = [words(text) for texts in references for text in texts]
        corpus = number_words([*words_K, *words_J])
        image_J = np.repeat(np.arange(len(number_I)), number_I)
        counts = ngram_counts(corpus)
        place_U, places = _word_places(corpus, len(words_K), None if constant else image_J)
        return CaptionTables(
            constant=constant,
            words_K=words_K,
            words_J=words_J,
            corpus=corpus,
            length_J=corpus.length_L[len(words_K) :],
            image_J=image_J,
            first_I=np.cumsum(number_I) - number_I,
            number_I=number_I,
            ngrams=tuple(_ngram_tables(table, len(words_K), image_J, constant=constant) for table in counts),
            place_U=place_U,
            places=places,
        )


def _ngram_tables(counts: Counts, captions: int, image_J: Ints, *, constant: bool) -> _NgramTables:
    references = counts.rows(captions, captions + len(image_J))
    most = most_per_group(references, image_J)
    images = int(image_J[-1]) + 1
    # log(images / images that have the n-gram in a reference); an n-gram in none counts as in one.
    idf_G = np.log(images) - np.log(np.maximum(1, np.bincount(most.gram_U, minlength=counts.grams)))
    weight_U = references.count_U * idf_G[references.gram_U]
    groups = (None, None) if constant else (image_J, np.arange(images))
    return _NgramTables(
        counts=counts.rows(0, captions),
        idf_G=idf_G,
        weight_U=weight_U,
        norm_J=np.sqrt(np.bincount(references.row_U, weight_U**2, len(image_J))),
        references=index_by_ngram(references.row_U, references.gram_U, counts.grams, groups[0]),
        most_U=most.count_U,
        images=index_by_ngram(most.row_U, most.gram_U, counts.grams, groups[1]),
    )


def _word_places(corpus: Corpus, captions: int, image_J: Ints | None) -> tuple[NDArray[np.uint64], Index]:
    """For each word of each reference of up to 64 words the bits of its places, and how they are found."""
    row_P = corpus.caption_P - captions
    use = np.flatnonzero((row_P >= 0) & (corpus.length_L[corpus.caption_P] <= _BITS))
    key_U, entry = np.unique(row_P[use] * corpus.words + corpus.word_P[use], return_inverse=True)
    place_U = np.zeros(len(key_U), np.uint64)
    np.bitwise_or.at(place_U, entry, np.uint64(1) << corpus.place_P[use].astype(np.uint64))
    return place_U, index_by_ngram(key_U // corpus.words, key_U % corpus.words, corpus.words, image_J)


def answer_statistics(tables: CaptionTables, start: int, stop: int) -> CaptionStatistics:
    """Compare the captions from `start` to before `stop` with the references, (A, I) each.

    Constant captions are a set of answers each; else all captions, which must be all of the tables, are one set.
    """
    sets = stop - start if tables.constant else 1
    length_AI = tables.corpus.length_L[start:stop].reshape(sets, -1)  # (K, 1), or (1, I)
    length_AJ = length_AI if tables.constant else length_AI[:, tables.image_J]
    correct = [_clipped_matches(tables, table, table.counts.rows(start, stop), sets) for table in tables.ngrams]
    cosines = [_cosines(tables, table, table.counts.rows(start, stop), sets) for table in tables.ngrams]
    length_AI = np.broadcast_to(length_AI, (sets, len(tables.first_I)))
    return CaptionStatistics(
        correct_I4=np.stack(correct, axis=-1),
        guess_I4=np.maximum(0, length_AI[..., None] - np.arange(LONGEST)),
        length_I=length_AI,
        closest_I=_closest_lengths(tables, length_AJ),
        cider_I=_cider(tables, length_AJ, cosines),
        rouge_I=_rouge(tables, length_AI, _common_words(tables, start, stop, sets)),
    )


def answer_scores(statistics: CaptionStatistics) -> dict[str, Floats]:
    """Score answer sets from their statistics (..., I): bleu4 (0..1), cider_d (0..10), rouge_l (0..1), (...) each."""
    sums = statistics.correct_I4.sum(-2), statistics.guess_I4.sum(-2)
    return {
        "bleu4": bleu(*sums, statistics.length_I.sum(-1), statistics.closest_I.sum(-1)),
        "cider_d": statistics.cider_I.mean(-1),
        "rouge_l": statistics.rouge_I.mean(-1),
    }


def _join(tables: CaptionTables, row_U: Ints, gram_U: Ints, index: Index, columns: int) -> tuple[Pairs, Ints]:
    """Join n-grams of captions with those that they are compared with, and say which cell (answer set, column) of a
    table a pair belongs to; columns are references or images."""
    pairs = same_ngram(gram_U, index, None if tables.constant else row_U)
    cell_X = index.row_U[pairs.right_X]
    return pairs, cell_X + row_U[pairs.left_X] * columns if tables.constant else cell_X


def _clipped_matches(tables: CaptionTables, table: _NgramTables, captions: Counts, sets: int) -> Ints:
    """(A, I) n-grams of a caption, each at most as often as in the reference that has it most (BLEU's clipping)."""
    images = len(tables.first_I)
    pairs, cell_X = _join(tables, captions.row_U, captions.gram_U, table.images, images)
    common_X = np.minimum(captions.count_U[pairs.left_X], table.most_U[pairs.right_X])
    return np.bincount(cell_X, common_X, sets * images).astype(np.int64).reshape(sets, images)


def _cosines(tables: CaptionTables, table: _NgramTables, captions: Counts, sets: int) -> Floats:
    """(A, R) clipped cosine of tf-idf vectors of one n-gram length, caption against reference.

    Vedantam et al. 2015, eq. 3, without the length penalty.
    """
    references = len(tables.image_J)
    pairs, cell_X = _join(tables, captions.row_U, captions.gram_U, table.references, references)
    weight_U = captions.count_U * table.idf_G[captions.gram_U]
    reference_X = table.weight_U[pairs.right_X]
    product_X = np.minimum(weight_U[pairs.left_X], reference_X) * reference_X
    product_AJ = np.bincount(cell_X, product_X, sets * references).reshape(sets, references)
    norm_K = np.sqrt(np.bincount(captions.row_U, weight_U**2, sets if tables.constant else len(tables.first_I)))
    norm_AJ = norm_K[:, None] if tables.constant else norm_K[None, tables.image_J]
    return _divide(product_AJ, norm_AJ * table.norm_J)


def _cider(tables: CaptionTables, length_AJ: Ints, cosines: list[Floats]) -> Floats:
    """(A, I) CIDEr-D: cosines with a Gaussian of the difference in words, the mean over n-gram lengths and references.

    An empty caption's similarity is 0 before the Gaussian.
    """
    sets, images = len(length_AJ), len(tables.first_I)
    similarity_AJ = np.mean(cosines, axis=0)
    similarity_AJ *= np.exp(-((length_AJ - tables.length_J) ** 2) / (2 * _SIGMA**2))
    cell_AJ = np.arange(sets)[:, None] * images + tables.image_J
    sum_AI = np.bincount(cell_AJ.ravel(), similarity_AJ.ravel(), sets * images).reshape(sets, images)
    return 10 * sum_AI / tables.number_I


def _common_words(tables: CaptionTables, start: int, stop: int, sets: int) -> Ints:
    """(A, R) length of the longest common subsequence of caption and reference.

    As `common_subsequence`, for all pairs at once: step t takes word t of every caption. Bits beyond a reference's end
    stay 1: row - hit keeps them, whatever carries run through row + hit.
    """
    references, corpus = len(tables.image_J), tables.corpus
    first, last = np.searchsorted(corpus.caption_P, (start, stop))
    word_P, place_P = corpus.word_P[first:last], corpus.place_P[first:last]
    caption_P = corpus.caption_P[first:last] - start
    row = np.full(sets * references, np.iinfo(np.uint64).max)
    for step in range(int(place_P.max(initial=-1)) + 1):
        now = np.flatnonzero(place_P == step)
        pairs, cell_X = _join(tables, caption_P[now], word_P[now], tables.places, references)
        row_X = row[cell_X]
        hit_X = row_X & tables.place_U[pairs.right_X]
        row[cell_X] = (row_X + hit_X) | (row_X - hit_X)
    common_AJ = np.bitwise_count(~row).astype(np.int64).reshape(sets, references)
    for long in np.flatnonzero(tables.length_J > _BITS):
        for answers in range(sets):
            caption = tables.words_K[start + answers if tables.constant else tables.image_J[long]]
            common_AJ[answers, long] = common_subsequence(caption, tables.words_J[long])
    return common_AJ


def _rouge(tables: CaptionTables, length_AI: Ints, common_AJ: Ints) -> Floats:
    """(A, I) the F of the best precision and the best recall among an image's references.

    Lin 2004, eq. 4, with coco-caption's beta; 0 when nothing is common.
    """
    best_AI = np.maximum.reduceat(common_AJ, tables.first_I, axis=-1)
    recall_AI = np.maximum.reduceat(common_AJ / np.maximum(1, tables.length_J), tables.first_I, axis=-1)
    precision_AI = best_AI / np.maximum(1, length_AI)
    return _divide((1 + _BETA**2) * precision_AI * recall_AI, recall_AI + _BETA**2 * precision_AI)


def _closest_lengths(tables: CaptionTables, length_AJ: Ints) -> Ints:
    """(A, I) the length of the reference closest to the caption's length; of two, the shorter."""
    base = int(tables.length_J.max()) + 1
    key_AJ = np.abs(tables.length_J - length_AJ) * base + tables.length_J  # orders by distance, then length
    return np.minimum.reduceat(key_AJ, tables.first_I, axis=-1) % base


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> Floats:
    """numerator / denominator, 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator != 0)
