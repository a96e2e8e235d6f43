"""What training does with the decisions of the gates: it balances them without a loss, and warns of collapse.

Shape suffixes: E experts.
"""

from collections.abc import Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor

from uniperceiver.model.model import Generalist
from uniperceiver.moe.balance import moved_bias
from uniperceiver.records import Decision

Place = tuple[int, str, int]  # layer, part, gate


def loads(decisions: Mapping[str, Sequence[Decision]]) -> dict[Place, Tensor]:
    """Assignments of every expert, (E,), of each gate that decides token by token, over all tasks."""
    found: dict[Place, Tensor] = {}
    for decision in chain.from_iterable(decisions.values()):
        if decision.segment_T is not None:
            place = (decision.layer, decision.part, decision.gate)
            count_E = decision.wanted_TE.sum(dim=0)
            found[place] = found[place] + count_E if place in found else count_E
    return found


@torch.no_grad()
def move_biases(model: Generalist, decisions: Mapping[str, Sequence[Decision]], rate: float) -> None:
    """Move the selection biases of all gates by the loads of a step; nothing at rate 0."""
    if not rate:
        return
    for (layer, part, gate), count_E in loads(decisions).items():
        bias_E = model.encoder.blocks[layer].get_submodule(f"{part}.router.gates.{gate}").get_buffer("bias_E")
        bias_E.copy_(moved_bias(bias_E, count_E, rate))
