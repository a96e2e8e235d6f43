"""Merging: experts whose choice depends on no values become plain weights, sum_e g_e W_e for each row (Eq. 4).

Shape suffixes: R rows, C codes, k choices.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uniperceiver.errors import UserError
from uniperceiver.moe.conditions import Code, OfSegment, condition_of
from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.merged_blocks import HalfBlock, Merged
from uniperceiver.moe.merged_linear import merge
from uniperceiver.moe.route import SegmentRoute
from uniperceiver.moe.router import Router
from uniperceiver.moe.settings import MoE
from uniperceiver.records import Segment


def mergeable(settings: MoE) -> OfSegment:
    """The condition of experts that merge exactly.

    Raises:
        UserError: these do not; the line says why.
    """
    condition = condition_of(settings.condition)
    if not isinstance(condition, OfSegment):
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


def one_of_each(settings: MoE, segments: Iterable[Segment]) -> dict[Code, Segment]:
    """The codes of the segments, in order, each with the first segment that has it.

    Raises:
        UserError: the experts cannot be merged, or the condition has no code for a segment.
    """
    condition = mergeable(settings)
    found: dict[Code, Segment] = {}
    for segment in segments:
        found.setdefault(condition.code(segment, settings), segment)
    return found


def planned(settings: MoE, tasks: Iterable[str], codes: Sequence[Code]) -> Merged:
    """What a merged model holds for those codes if no two of them turn out to share their weights."""
    rows = tuple(range(len(codes)))
    return Merged(
        tasks=tuple(tasks),
        codes=tuple(codes),
        half_blocks=(
            *(HalfBlock(layer=each, part="attention", first=rows, second=rows) for each in settings.attention_layers),
            *(HalfBlock(layer=each, part="ffn", first=rows, second=rows) for each in settings.ffn_layers),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Folded:
    """A linear without experts: the weights and biases of its rows, and the row of each code."""

    row_C: tuple[int, ...]
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
    one, other = router(torch.empty(len(segments), 0, device=device), context)
    assert isinstance(one, SegmentRoute)
    assert isinstance(other, SegmentRoute)
    return _folded(first, one, weighted=not whole), _folded(second, other, weighted=True)


def _folded(experts: Sequence[nn.Linear], route: SegmentRoute, *, weighted: bool) -> Folded:
    rows: list[tuple[Tensor, Tensor]] = []
    row_C: list[int] = []
    for code, chosen in enumerate(route.chosen):
        weight_k = route.value_Rk[code] if weighted and route.value_Rk is not None else None
        made = (
            merge([experts[each].weight for each in chosen], weight_k),
            merge([experts[each].bias for each in chosen], weight_k),
        )
        equal = (row for row, known in enumerate(rows) if all(map(torch.equal, known, made)))
        row_C.append(next(equal, len(rows)))
        if row_C[-1] == len(rows):
            rows.append(made)
    return Folded(row_C=tuple(row_C), rows=tuple(rows))
