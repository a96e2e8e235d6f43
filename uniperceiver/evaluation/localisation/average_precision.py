"""MATCHES -> AVERAGE PRECISION: precision over recall of each class, also of many resamples of the pictures at once.

Precision is read at 101 recalls, as `pycocotools.cocoeval.COCOeval.accumulate` does it.
Shape suffixes: I pictures, S resamples of them, K classes, M metrics, D detections of a class, P of them that are
right, A areas, T thresholds, R recalls.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uniperceiver.evaluation.intervals import Interval, percentiles, resampled_weights
from uniperceiver.evaluation.localisation.matching import AREAS, THRESHOLDS_T, Matches

_RECALL_R = np.linspace(0.0, 1.0, 101)
# (area, threshold of IoU; None: the mean of all)
_PRECISIONS: dict[str, tuple[str, float | None]] = {
    "ap": ("all", None),
    "ap50": ("all", 0.5),
    "ap75": ("all", 0.75),
    "ap_small": ("small", None),
    "ap_medium": ("medium", None),
    "ap_large": ("large", None),
}
METRICS = (*_PRECISIONS, "ar100")


@dataclass(frozen=True, kw_only=True)
class ClassMatches:
    """What was found of a class in all pictures, by falling score."""

    picture_D: np.ndarray  # int64
    right_ATD: np.ndarray  # bool
    counts_ATD: np.ndarray  # bool: right or wrong
    things_AI: np.ndarray  # int64, how many there are to find in each picture


def by_class(matches: Sequence[Matches], classes: int) -> list[ClassMatches]:
    """Gather the matches of all pictures by class; of equal scores the first picture's come first."""
    counts = [len(picture.score_D) for picture in matches]
    picture_D = np.repeat(np.arange(len(matches)), counts)
    class_D, score_D = (
        np.concatenate([getattr(picture, name) for picture in matches]) for name in ("class_D", "score_D")
    )
    right_ATD = np.concatenate([picture.right_ATD for picture in matches], axis=2)
    ignored_ATD = np.concatenate([picture.ignored_ATD for picture in matches], axis=2)
    things_KAI = np.zeros((classes, len(AREAS), len(matches)), np.int64)
    for place, picture in enumerate(matches):
        for area, counted_O in enumerate(picture.counted_AO):
            labels = picture.class_O[counted_O & (picture.class_O >= 0)]
            things_KAI[:, area, place] = np.bincount(labels, minlength=classes)
    gathered = []
    for label in range(classes):
        own_D = np.flatnonzero(class_D == label)
        own_D = own_D[np.argsort(-score_D[own_D], kind="stable")]
        gathered.append(
            ClassMatches(
                picture_D=picture_D[own_D],
                right_ATD=right_ATD[..., own_D],
                counts_ATD=~ignored_ATD[..., own_D],
                things_AI=things_KAI[label],
            )
        )
    return gathered


def figures_of(gathered: Sequence[ClassMatches], weight_SI: np.ndarray) -> np.ndarray:
    """(S, K, M) float64: every metric of each class; NaN where there is no such thing to find.

    A picture of weight 2 counts as if it stood in the data twice. That is exact but where a picture has two detections
    of a class with equal scores, whose repetitions then stand side by side.

    Args:
        weight_SI: how often each picture counts, whole numbers.
    """
    figures_SKM = np.full((len(weight_SI), len(gathered), len(METRICS)), np.nan)
    for label, matches in enumerate(gathered):
        precision, recall_ST = {}, np.zeros(0)
        for area, name in enumerate(AREAS):
            precision[name], recall = _curves(matches, area, weight_SI)
            recall_ST = recall if name == "all" else recall_ST
        for place, (name, threshold) in enumerate(_PRECISIONS.values()):
            chosen = slice(None) if threshold is None else np.flatnonzero(np.isclose(THRESHOLDS_T, threshold))
            figures_SKM[:, label, place] = precision[name][:, chosen].mean(axis=1)
        figures_SKM[:, label, -1] = recall_ST.mean(axis=1)
    return figures_SKM


def _curves(matches: ClassMatches, area: int, weight_SI: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and the greatest recall at each threshold, (S, T) each; NaN without things."""
    things_S1 = (weight_SI @ matches.things_AI[area].astype(np.float64))[:, None]
    shape = (len(weight_SI), len(THRESHOLDS_T))
    if not things_S1.any():
        return np.full(shape, np.nan), np.full(shape, np.nan)
    precision_ST, recall_ST = np.zeros(shape), np.zeros(shape)
    weight_SD = weight_SI[:, matches.picture_D].astype(np.float64)
    counts_TD, seen_SD = matches.counts_ATD[area], np.zeros(0)
    for threshold in range(len(THRESHOLDS_T)):
        if not threshold or not np.array_equal(counts_TD[threshold], counts_TD[threshold - 1]):
            seen_SD = np.cumsum(weight_SD * counts_TD[threshold], axis=1)
        # Between two right detections precision only falls, so that only right ones matter.
        right_P = np.flatnonzero(matches.right_ATD[area, threshold])
        if not len(right_P):
            continue
        hits_SP, seen_SP = np.cumsum(weight_SD[:, right_P], axis=1), seen_SD[:, right_P]
        ratio_SP = np.divide(hits_SP, seen_SP, out=np.zeros_like(hits_SP), where=seen_SP > 0)
        best_SP = np.maximum.accumulate(ratio_SP[:, ::-1], axis=1)[:, ::-1]  # at this recall or a greater one
        reached_SP = np.divide(hits_SP, things_S1, out=np.zeros_like(hits_SP), where=things_S1 > 0)
        precision_ST[:, threshold] = _at_recalls(best_SP, reached_SP).mean(axis=1)
        recall_ST[:, threshold] = reached_SP[:, -1]
    missing_S = things_S1[:, 0] == 0
    precision_ST[missing_S], recall_ST[missing_S] = np.nan, np.nan
    return precision_ST, recall_ST


def _at_recalls(best_SP: np.ndarray, reached_SP: np.ndarray) -> np.ndarray:
    """(S, R): the precision of the first detection that reaches each recall; 0 where none does."""
    # How many of the recalls each detection reaches first.
    passed_SP = np.searchsorted(_RECALL_R, reached_SP, side="right")
    rest_S1 = len(_RECALL_R) - passed_SP[:, -1:]
    first_SP = np.concatenate([np.diff(passed_SP, axis=1, prepend=0), rest_S1], axis=1)
    padded_SP = np.concatenate([best_SP, np.zeros_like(best_SP[:, :1])], axis=1)
    return np.repeat(padded_SP.ravel(), first_SP.ravel()).reshape(len(best_SP), len(_RECALL_R))


def class_means(figures_SKM: np.ndarray) -> np.ndarray:
    """(S, M): the mean of each metric over the classes that have it; NaN where none has."""
    known_SKM = ~np.isnan(figures_SKM)
    count_SM = known_SKM.sum(axis=1)
    total_SM = np.where(known_SKM, figures_SKM, 0.0).sum(axis=1)
    return np.divide(total_SM, count_SM, out=np.full(total_SM.shape, np.nan), where=count_SM > 0)


@dataclass(frozen=True, kw_only=True)
class Precision:
    """The figures of a split, without resampling and with; NaN: there is no such thing to find."""

    figures_KM: np.ndarray  # of each class
    resampled_SKM: np.ndarray
    pictures: int

    @classmethod
    def of(cls, matches: Sequence[Matches], classes: int, *, seed: int = 0, resamples: int = 200) -> "Precision":
        """Measure what was found, and the same in resamples of the pictures.

        Raises:
            ValueError: no pictures.
        """
        if not matches:
            raise ValueError("average precision: no pictures")
        gathered = by_class(matches, classes)
        pictures = len(matches)
        detections = max((len(matches_of_class.picture_D) for matches_of_class in gathered), default=1)
        weights = resampled_weights(pictures, seed, resamples, wide=max(pictures, detections))
        return cls(
            figures_KM=figures_of(gathered, np.ones((1, pictures)))[0],
            resampled_SKM=np.concatenate([figures_of(gathered, weight_SI) for weight_SI in weights]),
            pictures=pictures,
        )

    def value(self, metric: str) -> float:
        """The mean over the classes that have such things."""
        return float(class_means(self.figures_KM[None])[0, METRICS.index(metric)])

    def interval(self, metric: str) -> Interval:
        """Where that lies with 95 % confidence, by resampling pictures."""
        value_S = class_means(self.resampled_SKM)[:, METRICS.index(metric)]
        return percentiles(value_S[~np.isnan(value_S)], self.pictures)

    def of_classes(self, metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Low end, value and high end of each class, (K,) each; NaN where there is nothing to find."""
        place = METRICS.index(metric)
        ends = [
            percentiles(value_S[~np.isnan(value_S)], self.pictures) for value_S in self.resampled_SKM[:, :, place].T
        ]
        low_K, high_K = (np.array([getattr(end, side) for end in ends]) for side in ("low", "high"))
        return low_K, self.figures_KM[:, place], high_K
