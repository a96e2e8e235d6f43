"""Merging: experts whose choice depends on no values become plain weights, sum_e g_e W_e for each code (Eq. 4).

Reads the experts' weights outside of any forward: it is for a whole model in memory, not for one that is sharded.

Shape suffixes: G segment groups (here: codes), k choices.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uniperceiver.errors import UserError
from uniperceiver.moe.conditions import Code, OfSegment, condition_of
from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.kernels.by_group import merge
from uniperceiver.moe.merged_blocks import Merged, MergedHalfBlock
from uniperceiver.moe.route import Router, SegmentRoute
from uniperceiver.moe.settings import MoE
from uniperceiver.records import Segment


def mergeable(settings: MoE) -> OfSegment:
    """The condition of experts that merge exactly.

    Raises:
        UserError: these do not; the line says why.
    """
    condition = condition_of(settings.condition)
    if condition.by_token:
        raise UserError(
            f"moe.condition={settings.condition} cannot be merged: it chooses experts by the values of the tokens, so "
            "no single weight is right for all of them; attribute, modality, task and task_specific can be merged"
        )
    if settings.level == "ffn" and settings.k > 1:
        raise UserError(
            f"moe.level=ffn with k={settings.k} cannot be merged: experts that are whole FFNs have their nonlinearity "
            "inside, and a sum of such FFNs is not one FFN; moe.level=linear can be merged, and so can k=1"
        )
    return condition


def segment_of_each_code(settings: MoE, segments: Iterable[Segment]) -> dict[Code, Segment]:
    """The codes of the segments, in order, each with the first segment that has it.

    Raises:
        UserError: the experts cannot be merged, or the condition has no code for a segment.
    """
    condition = mergeable(settings)
    by_code: dict[Code, Segment] = {}
    for segment in segments:
        by_code.setdefault(condition.code(segment, settings), segment)
    return by_code


def planned(settings: MoE, tasks: Iterable[str], codes: Sequence[Code]) -> Merged:
    """What a merged model holds for those codes if no two of them turn out to share their weights."""
    rows = tuple(range(len(codes)))
    return Merged(
        tasks=tuple(tasks),
        codes=tuple(codes),
        half_blocks=(
            *(MergedHalfBlock(layer=n, part="attention", first=rows, second=rows) for n in settings.attention_layers),
            *(MergedHalfBlock(layer=n, part="ffn", first=rows, second=rows) for n in settings.ffn_layers),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Folded:
    """A linear without experts: the weights and biases of its rows, and the row of each code."""

    row_G: tuple[int, ...]
    rows: tuple[tuple[Tensor, Tensor], ...]


@torch.no_grad()
def fold(
    router: Router,
    first: Sequence[nn.Linear],
    second: Sequence[nn.Linear],
    segments: Sequence[Segment],
    *,
    whole: bool = False,
) -> tuple[Folded, Folded]:
    """The experts of a half-block's two linears as rows, one for each segment unless they are equal bit for bit.

    Args:
        router: decides, as for any sequence.
        segments: one of each code.
        whole: the experts are whole FFNs, of which each segment has one: the gate weighs what comes out of it.
    """
    device = first[0].weight.device
    context = ForwardContext(
        sequences=1, length=len(segments), segments=tuple(segments), device=device, token_first=len(segments) > 1
    )
    route1, route2 = router(torch.empty(len(segments), 0, device=device), context)
    assert isinstance(route1, SegmentRoute)
    assert isinstance(route2, SegmentRoute)
    return _folded(first, route1, weighted=not whole), _folded(second, route2, weighted=True)


def _folded(experts: Sequence[nn.Linear], route: SegmentRoute, *, weighted: bool) -> Folded:
    rows: list[tuple[Tensor, Tensor]] = []
    row_G: list[int] = []
    for code, expert_k in enumerate(route.chosen):
        weight_k = route.value_Gk[code] if weighted and route.value_Gk is not None else None
        merged = (
            merge([experts[expert].weight for expert in expert_k], weight_k),
            merge([experts[expert].bias for expert in expert_k], weight_k),
        )
        equal = (index for index, row in enumerate(rows) if all(map(torch.equal, row, merged)))
        row_G.append(next(equal, len(rows)))
        if row_G[-1] == len(rows):
            rows.append(merged)
    return Folded(row_G=tuple(row_G), rows=tuple(rows))
