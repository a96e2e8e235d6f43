"""What the answers to a question are made of. Nothing here needs torch.

Shape suffixes: N items, K candidates.
"""

from __future__ import annotations  # torch is named by annotations only, and an export goes without it

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from uniperceiver.serving.engine.routing import GateDecision

Numbers = TypeVar("Numbers", "Tensor", np.ndarray)


@dataclass(frozen=True, kw_only=True)
class Explained(Generic[Numbers]):
    """Why a model answers as it does: P(candidate | item) is the softmax of cosine / temperature.

    Of an original model that adds a learnt scale and bias to its answers, the softmax is that of these.
    """

    labels: tuple[str, ...]  # of the candidates
    cosine_NK: Numbers  # float32, -1 to 1; of a model tensors, of an export arrays
    probability_NK: Numbers  # float32, rows add up to 1
    temperature: float
    # Of each gate about every token, in the order of the layers; empty in a dense model, and where not asked for.
    decisions: Sequence[GateDecision] = field(default=())
