"""Random weights: the cheap control."""

from collections.abc import Mapping

import numpy as np

from uniperceiver.optimisation.balance.method import Method


class RandomWeights(Method):
    """w = K softmax(z), z ~ N(0, I), drawn anew in each step over all K tasks of the run.

    Source: Lin et al., "Reasonable Effectiveness of Random Weighting" (arXiv 2111.10603), without the K.
    """

    def weights(self, losses: Mapping[str, float], step: int) -> dict[str, float]:
        exponentials = np.exp(self.stream(step).standard_normal(len(self.tasks)))
        weights = len(self.tasks) * exponentials / exponentials.sum()
        return dict(zip(self.tasks, weights.tolist(), strict=True))
