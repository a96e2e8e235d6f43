"""How the losses or gradients of several tasks become one update."""

from typing import Literal

from pydantic import Field, PositiveInt

from uniperceiver.strict import record

BalanceMethod = Literal[
    "fixed",
    "uncertainty",
    "gradnorm",
    "dwa",
    "random_weights",
    "pcgrad",
    "cagrad",
    "nash",
    "famo",
    "tbgn",
    "own_moments",
]


@record
class TaskBalanceConfig:
    """What makes one update of several tasks; a key is read by the methods that its sentence names."""

    method: BalanceMethod = "fixed"
    """fixed: the mean of the draws, each times its task's `loss_weight`. The others: docs/balancing.md."""
    window: PositiveInt = 1
    """With unmixed sampling: draws of tasks, one after the other at the same weights, that make one update."""
    lr: float = Field(default=0.025, gt=0)
    """uncertainty, gradnorm, famo: Adam's learning rate of the learnt weights."""
    restoring: float = Field(default=1.5, ge=0)
    """gradnorm: the exponent α; the larger, the more a task that learns slowly is helped."""
    temperature: float = Field(default=2.0, gt=0)
    """dwa: the temperature T; the larger, the more alike the weights."""
    period: PositiveInt = 100
    """dwa: steps whose losses are averaged before two averages are compared."""
    radius: float = Field(default=0.5, ge=0)
    """cagrad: c, how far from the mean gradient the update may be, in lengths of the mean gradient."""
    decay: float = Field(default=0.01, ge=0)
    """famo: γ, which pulls the weights back towards equal ones."""
    floor: float = Field(default=0.05, ge=0, le=1)
    """tbgn: the least sampling ratio that the optimiser divides by, against spikes of rare tasks; 0: none."""
    cap: float = Field(default=2.0, ge=0)
    """tbgn: limit of the root mean square of m / (sqrt(n) + ε) in each parameter tensor; 0: none."""
