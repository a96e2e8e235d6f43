"""A model with experts becomes one without: the same answers at the cost of a dense model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn

from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.build import empty_model
from uniperceiver.model.model import Generalist
from uniperceiver.moe.fold import Folded, fold, planned, segment_of_each_code
from uniperceiver.moe.layer import ExpertFeedForward
from uniperceiver.moe.merged_blocks import Merged, MergedHalfBlock
from uniperceiver.moe.route import Router
from uniperceiver.moe.settings import MoE
from uniperceiver.records import Segment

Part = Literal["attention", "ffn"]
_LINEARS: dict[Part, tuple[str, str]] = {"attention": ("qkv", "out"), "ffn": ("linear1", "linear2")}


@dataclass(frozen=True, kw_only=True)
class MergedSize:
    """What merging for some tasks takes."""

    rows: int  # the most weights that a linear has
    parameters: int


@dataclass(frozen=True, kw_only=True)
class Merging:
    """A merged model, and the sizes that tell whether it was worth it."""

    model: Generalist
    arch: Architecture
    routed: MergedSize  # of the model with experts, which are its rows
    together: MergedSize
    alone: Mapping[str, MergedSize]  # of each task, had the model been merged for it only


def experts_of(arch: Architecture) -> MoE:
    """The experts of a model that can be merged in principle.

    Raises:
        UserError: it is dense, or merged already.
    """
    if arch.merged is not None:
        raise UserError(
            f"this model is merged already, for {', '.join(arch.merged.tasks)}; merge the model with experts that it "
            "was made from"
        )
    if arch.moe is None:
        raise UserError("this model is dense: it has no experts to merge, and serves at a dense model's cost as it is")
    return arch.moe


def planned_architecture(arch: Architecture, needs: Mapping[str, Sequence[Segment]]) -> Architecture:
    """The architecture of the merged model, before any weight was looked at: rows may yet turn out to be equal.

    Args:
        needs: the segments of each task.

    Raises:
        UserError: there are no experts, or they cannot be merged.
    """
    moe = experts_of(arch)
    codes = segment_of_each_code(moe, chain.from_iterable(needs.values()))
    return replace(arch, merged=planned(moe, needs, tuple(codes)))


def parameters_of(arch: Architecture, temperatures: Iterable[str]) -> int:
    """How many parameters a model of that architecture has; none is allocated."""
    return _count(empty_model(arch, temperatures))


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def merge_model(model: Generalist, arch: Architecture, needs: Mapping[str, Sequence[Segment]]) -> Merging:
    """A new model whose segments go through plain weights; shares no tensor with the old one.

    Args:
        needs: the segments of each task, by its name (tasks/task.py).

    Raises:
        UserError: there are no experts, or they cannot be merged.
    """
    moe = experts_of(arch)
    segments = segment_of_each_code(moe, chain.from_iterable(needs.values()))
    halves, state = _folded_state(model, moe, list(segments.values()))
    merged = Merged(tasks=tuple(needs), codes=tuple(segments), half_blocks=tuple(halves))
    merged_arch = replace(arch, merged=merged)
    new = empty_model(merged_arch, model.temperatures)
    merged_alone = {task: merged.restricted_to(segment_of_each_code(moe, own)) for task, own in needs.items()}
    new.load_state_dict({name: value.detach().clone() for name, value in state.items()}, assign=True)
    return Merging(
        model=new.eval(),
        arch=merged_arch,
        routed=MergedSize(rows=moe.experts, parameters=_count(model)),
        together=MergedSize(rows=merged.rows, parameters=_count(new)),
        alone={
            task: MergedSize(rows=alone.rows, parameters=parameters_of(replace(arch, merged=alone), model.temperatures))
            for task, alone in merged_alone.items()
        },
    )


def _folded_state(
    model: Generalist, moe: MoE, segments: Sequence[Segment]
) -> tuple[list[MergedHalfBlock], dict[str, Tensor]]:
    """The rows of all half-blocks that had experts, and the state of the merged model."""
    halves: list[MergedHalfBlock] = []
    state = dict(model.state_dict())
    layers: dict[Part, tuple[int, ...]] = {"attention": moe.attention_layers, "ffn": moe.ffn_layers}
    for part in layers:
        for layer in layers[part]:
            prefix = f"encoder.blocks.{layer}.{part}"
            state = {name: value for name, value in state.items() if not name.startswith(f"{prefix}.")}
            folded = _fold(model.get_submodule(prefix), part, segments)
            first, second = folded
            for linear, rows in zip(_LINEARS[part], folded, strict=True):
                state |= _named(f"{prefix}.{linear}", rows)
            halves.append(MergedHalfBlock(layer=layer, part=part, first=first.row_G, second=second.row_G))
    return halves, state


def _fold(half: nn.Module, part: Part, segments: Sequence[Segment]) -> tuple[Folded, Folded]:
    """The experts of an attention or FFN; whole-FFN experts lie the other way round, linears inside experts."""
    whole = isinstance(half, ExpertFeedForward)
    by_linear: list[list[nn.Linear]] = []
    for name in _LINEARS[part]:
        experts = half.get_submodule("experts" if whole else f"{name}.experts").children()
        linears = [expert.get_submodule(name) if whole else expert for expert in experts]
        by_linear.append([linear for linear in linears if isinstance(linear, nn.Linear)])
    router: Router = half.get_submodule("router")  # type: ignore[assignment]
    first, second = by_linear
    return fold(router, first, second, segments, whole=whole)


def _named(name: str, folded: Folded) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a linear as it is saved."""
    for row, (weight, bias) in enumerate(folded.rows):
        place = name if len(folded.rows) == 1 else f"{name}.rows.{row}"
        yield f"{place}.weight", weight
        yield f"{place}.bias", bias
