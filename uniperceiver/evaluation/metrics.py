"""Classification and language-modelling metrics, as plain functions of scores and right answers.

Shape suffixes: N answers, K candidates or classes (C where a class is the right one).
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable

import numpy as np
import torch
from torch import Tensor


def top_k_hits(scores_NK: Tensor, target_N: Tensor, k: int) -> Tensor:
    """(N,) float64: whether the right candidate is among the k best, the unit that accuracy averages.

    Candidates with equal scores come in random order: a tie at the border gives the probability of a hit, so
    constant scores give chance. Scores with a NaN hit nothing.

    Raises:
        ValueError: a target is not one of the K candidates.
    """
    if target_N.numel() and not 0 <= int(target_N.min()) <= int(target_N.max()) < scores_NK.shape[1]:
        raise ValueError(f"accuracy: targets must lie in 0..{scores_NK.shape[1] - 1}; leave out unknown ones (-1)")
    right_N1 = scores_NK.gather(1, target_N[:, None])
    above_N, tied_N = (scores_NK > right_N1).sum(1), (scores_NK == right_N1).sum(1)
    return hit_probability(above_N, tied_N, torch.ones_like(tied_N), k) * ~scores_NK.isnan().any(1)


def hit_probability(above_N: Tensor, tied_N: Tensor, right_N: Tensor, k: int) -> Tensor:
    """(N,) float64: probability that the best k hold a right candidate, when ties are broken at random.

    `above_N` wrong candidates score more than the best right one, `tied_N` candidates score the same, itself
    included, `right_N` of these are right. 1 - C(tied - right, d) / C(tied, d) with d = k - above draws.
    """
    miss_N = torch.ones(above_N.shape, dtype=torch.float64, device=above_N.device)
    for draw in range(k):
        wrong_N, left_N = (tied_N - right_N - draw).clamp(min=0), (tied_N - draw).clamp(min=1)
        miss_N = torch.where(draw < k - above_N, miss_N * wrong_N / left_N, miss_N)
    return 1 - miss_N


def perplexity(mean_loss: float) -> float:
    """exp of the mean negative log likelihood in nats; inf when that is beyond a float."""
    try:
        return math.exp(mean_loss)
    except OverflowError:
        return math.inf


def confusion(predicted_N: Tensor, target_N: Tensor, classes: int) -> np.ndarray:
    """(K, K) int64: how often class `row` was answered by class `column`; sums over batches may be added."""
    cell_N = target_N.long() * classes + predicted_N.long()
    return torch.bincount(cell_N.cpu(), minlength=classes * classes).reshape(classes, classes).numpy()


def f1(confusion_KK: np.ndarray) -> float:
    """F1 (0..1): of class 1 when there are two classes, else the mean over classes (macro).

    The mean leaves out classes that neither occur nor are answered, as scikit-learn's does.
    """
    seen_K = confusion_KK.sum(0) + confusion_KK.sum(1)
    f1_K = 2 * np.diagonal(confusion_KK) / np.maximum(1, seen_K)
    return float(f1_K[1] if len(f1_K) == 2 else f1_K[seen_K > 0].mean())


def matthews(confusion_KK: np.ndarray) -> float:
    """Matthews correlation (-1..1) for any number of classes (Gorodkin 2004, eq. 8); 0 where it is undefined."""
    table = confusion_KK.astype(float)
    total, hits = table.sum(), np.trace(table)
    target_K, predicted_K = table.sum(1), table.sum(0)
    squares = (total**2 - (predicted_K**2).sum()) * (total**2 - (target_K**2).sum())
    return float((hits * total - target_K @ predicted_K) / math.sqrt(squares)) if squares > 0 else 0.0


def average_precision(score_NK: np.ndarray, right_NK: np.ndarray, weight_N: np.ndarray | None = None) -> np.ndarray:
    """(K,) float64: the area under precision over recall of each class, samples ranked by score, ties taken together.

    NaN where no sample is right. Source: scikit-learn's `average_precision_score`.

    Args:
        weight_N: how often each sample counts; None: once.
    """
    weights_N = np.ones(len(score_NK)) if weight_N is None else weight_N.astype(float)
    values = []
    for score_N, right_N in zip(score_NK.T, right_NK.T, strict=True):
        order_N = np.argsort(-score_N, kind="stable")
        ranked_N, weigh_N = score_N[order_N], weights_N[order_N]
        hits_N = np.cumsum(weigh_N * right_N[order_N])
        ends = np.append(np.flatnonzero(np.diff(ranked_N)), len(ranked_N) - 1)  # of ties
        hits, seen = hits_N[ends], np.cumsum(weigh_N)[ends]
        if not hits_N[-1]:
            values.append(math.nan)
            continue
        precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
        values.append(float((np.diff(hits, prepend=0.0) * precision).sum() / hits_N[-1]))
    return np.array(values)


def mean_average_precision(score_NK: np.ndarray, right_NK: np.ndarray, weight_N: np.ndarray | None = None) -> float:
    """The mean of `average_precision` over the classes of which a sample is right; NaN if there is none."""
    value_K = average_precision(score_NK, right_NK, weight_N)
    return float(value_K[~np.isnan(value_K)].mean()) if not np.isnan(value_K).all() else math.nan


def majority_share(targets: Iterable[Hashable]) -> float:
    """Share (0..1) of the most frequent target: the chance level of classification (classes) and masked words (tokens).

    Captions and retrieval have theirs beside their metrics: `best_constant_captions`, `retrieval_chance`.

    Raises:
        ValueError: no targets.
    """
    counts = Counter(targets)
    if not counts:
        raise ValueError("chance: no targets to count")
    return max(counts.values()) / counts.total()
