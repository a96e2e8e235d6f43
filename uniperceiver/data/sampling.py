"""How often each task is drawn."""

from collections.abc import Mapping


def sampling_weights(sizes: Mapping[str, int], explicit: Mapping[str, float | None], alpha: float) -> dict[str, float]:
    """Relative weight of each task: the explicit one, or n ** alpha, n the size of its training set.

    This is temperature sampling, p_k ∝ n_k^(1/T) with T = 1 / alpha: alpha = 1 draws in proportion to the sizes,
    alpha = 0 all tasks equally often (T → ∞). Implicit weights are scaled to a mean of 1, so that an explicit weight of
    1 means "as often as the average".

    Source: Arivazhagan et al., "Massively Multilingual Neural Machine Translation in the Wild" (arXiv 1907.05019).
    """
    implicit = {name: sizes[name] ** alpha for name, weight in explicit.items() if weight is None}
    mean = sum(implicit.values()) / max(len(implicit), 1)
    return {name: implicit[name] / mean if weight is None else weight for name, weight in explicit.items()}
