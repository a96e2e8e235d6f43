"""The chance level of captions: the best single training caption, given to every image.

Shape suffixes: K training captions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uniperceiver.evaluation.captions import CAPTION_METRICS, CaptionTables, answer_scores, answer_statistics
from uniperceiver.evaluation.ptb import words
from uniperceiver.streams import numpy_stream

_CHUNK = 64  # captions whose comparisons with all references are in memory together


@dataclass(frozen=True, kw_only=True)
class ConstantCaption:
    """What a model without eyes reaches in one metric."""

    metric: str
    score: float
    caption: str  # the words that every image was given


def best_constant_captions(
    training: Sequence[str], references: Sequence[Sequence[str]], *, seed: int = 0, most: int = 3000
) -> dict[str, ConstantCaption]:
    """For each metric find the training caption that scores best as the answer for all images: the chance level.

    Of more than `most` different captions a seeded sample is tried. The score equals `score_captions` of that
    caption for each image. Where no training caption has a word that the metrics count (as of emoji alone), chance is
    that of an empty answer.

    Raises:
        ValueError: no image, or one without references.
    """
    different = sorted({tuple(words(caption)) for caption in set(training)} - {()})
    different = different or [()]
    if len(different) > most:
        chosen = numpy_stream(seed, "constant caption").choice(len(different), most, replace=False)
        different = [different[index] for index in sorted(chosen)]
    tables = CaptionTables.of(different, references, constant=True)
    chunks = [
        answer_scores(answer_statistics(tables, start, min(start + _CHUNK, len(different))))
        for start in range(0, len(different), _CHUNK)
    ]
    best = {}
    for metric in CAPTION_METRICS:
        score_K = np.concatenate([scores[metric] for scores in chunks])
        caption = " ".join(different[score_K.argmax()])
        best[metric] = ConstantCaption(metric=metric, score=float(score_K.max()), caption=caption)
    return best
