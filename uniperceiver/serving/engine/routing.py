"""What the gates of a model decide about some inputs, as arrays.

Shape suffixes: B items, N tokens of the longest item, E experts, T tokens in the order of a pass.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture
from uniperceiver.records import Batch, Decision


@dataclass(frozen=True, kw_only=True)
class GateDecision:
    """What one gate decided about all tokens of all items; 0 and False where an item has no such token."""

    layer: int
    part: str  # "attention" or "ffn"
    gate: int  # of the part's gates
    kinds_N: tuple[str, ...]  # what the tokens are for routing: "visual" or "text"; <SPE> counts to the first part
    valid_BN: np.ndarray  # bool, whether the item has that token
    probability_BNE: np.ndarray  # float32, the gate's softmax
    chosen_BNE: np.ndarray  # bool, the experts that computed the token
    weight_BNE: np.ndarray  # float32, how much of each expert's result it got


def gate_decisions(
    arch: Architecture, passes: Iterable[tuple[Batch, tuple[Decision, ...]]], *, token_first: bool
) -> list[GateDecision]:
    """The decisions of all gates, in the order of the layers; batches are joined.

    Args:
        token_first: whether the model holds tokens of several segments token after token.

    Raises:
        UserError: the model has no gates.
    """
    if arch.moe is None or arch.merged is not None:
        what = "a dense model" if arch.moe is None else "a merged model"
        raise UserError(f"routing: {what}, in which nothing is chosen; ask a run that was trained with moe.condition")
    batches = [[_of_batch(decision, batch, token_first) for decision in decisions] for batch, decisions in passes]
    if batches and not batches[0]:
        raise UserError(f"routing: with moe.condition={arch.moe.condition} each task has its copy, so no gate decides")
    return [_joined(parts) for parts in zip(*batches, strict=True)]


def _of_batch(decision: Decision, batch: Batch, token_first: bool) -> GateDecision:
    items, length = len(batch.ids), decision.segments[-1].stop
    valid_BN = torch.ones(items, length, dtype=torch.bool)
    text = batch.inputs.text
    if text is not None and text.valid_BN is not None:
        valid_BN[:, length - text.valid_BN.shape[1] :] = text.valid_BN.cpu()

    def by_item(value_TE: Tensor) -> np.ndarray:
        value_TE = value_TE.detach().cpu()
        if decision.group_S:  # a row for each group of segments
            lengths = [segment.stop - segment.start for segment in decision.segments]
            group_N = torch.tensor(decision.group_S).repeat_interleave(torch.tensor(lengths))
            value_BNE = value_TE[group_N].expand(items, -1, -1)
        elif token_first and len(decision.segments) > 1:
            value_BNE = value_TE.unflatten(0, (length, items)).transpose(0, 1)
        else:
            value_BNE = value_TE.unflatten(0, (items, length))
        return (value_BNE * valid_BN[:, :, None]).numpy()

    return GateDecision(
        layer=decision.layer,
        part=decision.part,
        gate=decision.gate,
        kinds_N=tuple(segment.kind for segment in decision.segments for _ in range(segment.start, segment.stop)),
        valid_BN=valid_BN.numpy(),
        probability_BNE=by_item(decision.probability_TE.float()),
        chosen_BNE=by_item(decision.chosen_TE),
        weight_BNE=by_item(decision.weight_TE.float()),
    )


def _joined(parts: tuple[GateDecision, ...]) -> GateDecision:
    longest = max(parts, key=lambda part: len(part.kinds_N))

    def joined(name: str) -> np.ndarray:
        values = [getattr(part, name) for part in parts]
        missing = [len(longest.kinds_N) - value.shape[1] for value in values]
        padding = [
            [(0, 0), (0, more), *[(0, 0)] * (value.ndim - 2)] for value, more in zip(values, missing, strict=True)
        ]
        return np.concatenate([np.pad(value, pads) for value, pads in zip(values, padding, strict=True)])

    arrays = {name: joined(name) for name in ("valid_BN", "probability_BNE", "chosen_BNE", "weight_BNE")}
    return GateDecision(layer=longest.layer, part=longest.part, gate=longest.gate, kinds_N=longest.kinds_N, **arrays)
