"""Fixed weights: what nearly every method has to be compared with."""

from typing import ClassVar

from uniperceiver.optimisation.balance.method import Method


class Fixed(Method):
    """gradient = mean over the draws of ω_k ∇L_k, with ω_k = `loss_weight`.

    Source: "In Defense of the Unitary Scalarization for Deep Multi-Task Learning" (arXiv 2201.04122).
    """

    least_tasks: ClassVar[int] = 1
