"""BLEU-4, CIDEr-D and ROUGE-L as the COCO scorers (coco-caption, pycocoevalcap) compute them.

Shape suffixes: I images, R references of all images in order of the images, E entries of an n-gram table,
X expanded entries, 4 the n-gram lengths 1..4, ... any leading dimensions.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uniperceiver.evaluation.ngrams import Counts, Floats, Ints, entries_of, most_per_group, spans, split_counts
from uniperceiver.evaluation.ptb import words

CAPTION_METRICS = ("bleu4", "cider_d", "rouge_l")
_SIGMA = 6.0  # width of CIDEr-D's length penalty
_BETA = 1.2  # weight of recall in ROUGE-L


@dataclass(frozen=True, kw_only=True)
class CaptionStatistics:
    """What the scores of any (re)sample of the images are made of; document frequencies stay those of all images."""

    correct_I4: Ints  # clipped n-gram matches
    guess_I4: Ints  # n-grams of the candidate
    length_I: Ints  # words of the candidate
    closest_I: Ints  # words of the reference whose length is closest, the shorter one of two
    cider_I: Floats  # >= 0, 10 at most
    rouge_I: Floats  # 0..1


@dataclass(frozen=True, kw_only=True)
class References:
    """The references of a corpus, flattened."""

    words_R: list[list[str]]
    image_R: Ints  # which image a reference belongs to, ascending
    first_I: Ints  # the first reference of each image
    number_I: Ints  # how many references each image has, at least 1

    @property
    def length_R(self) -> Ints:
        """Words per reference."""
        return np.array([len(words) for words in self.words_R], np.int64)


def score_captions(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """bleu4 (0..1), cider_d (0..10) and rouge_l (0..1) of one candidate per image against its references.

    Raises:
        ValueError: no image, an image without references, or unequal numbers of candidates and images.
    """
    return caption_scores(caption_statistics(candidates, references))


def caption_statistics(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionStatistics:
    """Score every image once; an empty candidate scores 0. Warns when there is only one image. Raises: as above."""
    if len(candidates) != len(references):
        raise ValueError(f"captions: {len(candidates)} candidates for {len(references)} images; give one per image")
    flat = flatten(references)
    if len(candidates) == 1:
        warnings.warn("CIDEr-D of a single image is 0: all its words are in every document", stacklevel=2)
    words_I = [words(candidate) for candidate in candidates]
    length_I = np.array([len(each) for each in words_I], np.int64)
    split = split_counts(words_I, flat.words_R)
    similarity_R = np.mean([_cosines(mine, theirs, flat) for mine, theirs in split], axis=0)
    similarity_R *= length_penalty(length_I[flat.image_R], flat.length_R)
    return CaptionStatistics(
        correct_I4=np.stack([_matches(mine, theirs, flat) for mine, theirs in split], axis=1),
        guess_I4=guesses(length_I),
        length_I=length_I,
        closest_I=closest_lengths(length_I, flat),
        cider_I=10 * np.bincount(flat.image_R, similarity_R) / flat.number_I,
        rouge_I=_rouge(words_I, flat),
    )


def caption_scores(statistics: CaptionStatistics) -> dict[str, float]:
    """The three scores of a corpus."""
    bleu4 = bleu(
        statistics.correct_I4.sum(0), statistics.guess_I4.sum(0), statistics.length_I.sum(), statistics.closest_I.sum()
    )
    return {
        "bleu4": float(bleu4),
        "cider_d": float(statistics.cider_I.mean()),
        "rouge_l": float(statistics.rouge_I.mean()),
    }


def flatten(references: Sequence[Sequence[str]]) -> References:
    """Tokenize the references. Raises ValueError: no image, or an image without references."""
    number_I = np.array([len(texts) for texts in references], np.int64)
    if not len(number_I):
        raise ValueError("captions: no images to score")
    if not number_I.all():
        raise ValueError(f"captions: image {int(np.argmin(number_I))} has no reference caption; leave it out")
    return References(
        words_R=[words(text) for texts in references for text in texts],
        image_R=np.repeat(np.arange(len(number_I)), number_I),
        first_I=np.cumsum(number_I) - number_I,
        number_I=number_I,
    )


def bleu(correct: np.ndarray, guess: np.ndarray, length: np.ndarray, closest: np.ndarray) -> Floats:
    """Corpus BLEU-4 from sums (..., 4), (..., 4), (...), (...) over images (Papineni et al. 2002, eq. 3).

    The small constants are those of coco-caption's bleu_scorer.py: no match at all gives almost 0, never NaN.
    """
    small, tiny = 1e-9, 1e-15
    precision = np.prod((correct + tiny) / (guess + small), axis=-1) ** (1 / correct.shape[-1])
    ratio = (length + tiny) / (closest + small)
    return precision * np.exp(np.minimum(0, 1 - 1 / ratio))


def guesses(length: Ints) -> Ints:
    """(..., 4): how many n-grams a caption of that many words has."""
    return np.maximum(0, length[..., None] - np.arange(4))


def closest_lengths(length_I: Ints, references: References) -> Ints:
    """Per image the length of the reference closest to the candidate's length; of two, the shorter."""
    length_R = references.length_R
    base = int(length_R.max()) + 1
    key_R = np.abs(length_R - length_I[references.image_R]) * base + length_R  # orders by distance, then length
    return np.minimum.reduceat(key_R, references.first_I) % base


def inverse_document_frequency(references: Counts, image_R: Ints, images: int) -> Floats:
    """(G,) log(images / images that have the n-gram in a reference); an n-gram in none counts as in one."""
    per_image = most_per_group(references, image_R)
    return np.log(images) - np.log(np.maximum(1, np.bincount(per_image.gram_E, minlength=references.grams)))


def length_penalty(length: Ints, reference_length: Ints) -> Floats:
    """CIDEr-D's Gaussian of the difference in words; an empty caption's similarity is 0 before it."""
    return np.exp(-((length - reference_length) ** 2) / (2 * _SIGMA**2))


def divide(numerator: np.ndarray, denominator: np.ndarray) -> Floats:
    """numerator / denominator, 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator != 0)


def f_measure(precision: Floats, recall: Floats) -> Floats:
    """ROUGE-L's F (Lin 2004, eq. 4) with coco-caption's beta; 0 when nothing is common."""
    return divide((1 + _BETA**2) * precision * recall, recall + _BETA**2 * precision)


def common_subsequence(mask: dict[str, int], other: Sequence[str]) -> int:
    """Length of the longest common subsequence of `other` and the caption whose `word_masks` are `mask`.

    Bit-parallel (Hyyro 2004, "Bit-parallel LCS-length computation revisited"): bits that become 0 count.
    """
    full = sum(mask.values())  # the masks are disjoint
    row = full
    for word in other:
        if bits := mask.get(word):
            hit = row & bits
            row = (row + hit) | (row - hit)
    return full.bit_count() - (row & full).bit_count()


def word_masks(caption: Sequence[str]) -> dict[str, int]:
    """For each word of a caption, the bits of the places where it stands."""
    mask: dict[str, int] = {}
    for place, word in enumerate(caption):
        mask[word] = mask.get(word, 0) | 1 << place
    return mask


def _matches(mine: Counts, theirs: Counts, references: References) -> Ints:
    """(I,) n-grams of the candidate, each at most as often as in the reference that has it most (BLEU's clipping)."""
    most = most_per_group(theirs, references.image_R)
    entry_E = entries_of(most, mine.row_E, mine.gram_E)
    found = entry_E >= 0
    common = np.minimum(mine.count_E[found], most.count_E[entry_E[found]])
    return np.bincount(mine.row_E[found], common, len(references.first_I)).astype(np.int64)


def _cosines(mine: Counts, theirs: Counts, references: References) -> Floats:
    """(R,) clipped cosine of tf-idf vectors of one n-gram length, candidate against each of its references.

    Vedantam et al. 2015, eq. 3, without the length penalty.
    """
    images = len(references.first_I)
    idf_G = inverse_document_frequency(theirs, references.image_R, images)
    mine_E, theirs_E = mine.count_E * idf_G[mine.gram_E], theirs.count_E * idf_G[theirs.gram_E]
    repeats = references.number_I[mine.row_E]
    entry_X = np.repeat(np.arange(len(mine_E)), repeats)
    reference_X = spans(references.first_I[mine.row_E], repeats)
    other_X = entries_of(theirs, reference_X, mine.gram_E[entry_X])
    entry_X, reference_X, other_X = (each[other_X >= 0] for each in (entry_X, reference_X, other_X))
    product_X = np.minimum(mine_E[entry_X], theirs_E[other_X]) * theirs_E[other_X]
    norm_I = np.sqrt(np.bincount(mine.row_E, mine_E**2, images))
    norm_R = np.sqrt(np.bincount(theirs.row_E, theirs_E**2, len(references.image_R)))
    return divide(np.bincount(reference_X, product_X, len(references.image_R)), norm_I[references.image_R] * norm_R)


def _rouge(words_I: list[list[str]], references: References) -> Floats:
    """(I,) the F of the best precision and the best recall among an image's references."""
    masks = [word_masks(candidate) for candidate in words_I]
    pairs = zip(references.image_R, references.words_R, strict=True)
    common_R = np.array([common_subsequence(masks[image], other) for image, other in pairs])
    length_I = np.array([len(candidate) for candidate in words_I])
    best_I = np.maximum.reduceat(common_R, references.first_I)
    recall_R = common_R / np.maximum(1, references.length_R)
    return f_measure(best_I / np.maximum(1, length_I), np.maximum.reduceat(recall_R, references.first_I))
