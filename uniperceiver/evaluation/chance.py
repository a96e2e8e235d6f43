"""Chance levels of answers that ignore the input; captions and retrieval have theirs beside their metrics.

(`constant_caption.best_constant_captions`, `retrieval.retrieval_chance`.)

Shape suffixes: N answers.
"""

from collections import Counter
from collections.abc import Hashable, Iterable


def majority_share(targets: Iterable[Hashable]) -> float:
    """Share (0..1) of the most frequent target: the chance of classification (classes) and masked words (tokens).

    Raises:
        ValueError: no targets.
    """
    counts = Counter(targets)
    if not counts:
        raise ValueError("chance: no targets to count")
    return max(counts.values()) / counts.total()
