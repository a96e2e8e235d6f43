"""Routing conditions: what R(x) of Eq. 3 looks at, one function each.

A condition that reads no values is a function of the segment: its code, of which a learned embedding is made, so a
gate decides once for each code. One that reads values is a function of a half-block's input and its pooled context.
A condition of your own is one function and one line of the table (examples/new_condition.py).

Shape suffixes: B sequences, N tokens, D width, C width of R.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from uniperceiver.errors import UserError, nearest
from uniperceiver.moe.attributes import LAYOUTS
from uniperceiver.moe.settings import MoE
from uniperceiver.records import Facts, Segment

KINDS = ("visual", "text")

Code = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class OfSegment:
    """A condition that reads no values, so that its experts merge into plain weights."""

    code: Callable[[Segment, MoE], Code]
    normed: bool = False  # R = LayerNorm(W code + b) instead of an embedding W code
    gated: bool = True  # False: the code, a one-hot vector, names the expert
    needs_task: bool = False  # only tasks of the run have a code

    def width(self, settings: MoE) -> int:
        """Entries of a code."""
        facts = Facts(side="input", inputs=("text",), targets=("text",), task=0)
        return len(self.code(Segment(start=0, stop=1, kind="text", causal=False, facts=facts), settings))


@dataclass(frozen=True, kw_only=True)
class OfValues:
    """A condition that reads the tokens themselves."""

    represent: Callable[[Tensor, Tensor | None], Tensor]  # (x_BND, pooled_BD if `pools`) -> R, (B, N, C)
    pools: bool = False  # the half-block's attention pooling is handed to `represent`
    experts_choose: bool = False  # each expert takes its tokens, instead of each token its experts


Condition = OfSegment | OfValues


def token(x_BND: Tensor, pooled_BD: Tensor | None) -> Tensor:
    """R(x) = x (Eq. 5)."""
    return x_BND


def context(x_BND: Tensor, pooled_BD: Tensor | None) -> Tensor:
    """R(x) = [x, AttnPool(X)] (Eq. 6)."""
    assert pooled_BD is not None
    return torch.cat([x_BND, pooled_BD[:, None].expand_as(x_BND)], dim=-1)


def modality(segment: Segment, settings: MoE) -> Code:
    """R(x) = Embed(id of the token's modality) (Eq. 7)."""
    return _one_hot(KINDS.index(segment.kind), len(KINDS))


def task(segment: Segment, settings: MoE) -> Code:
    """R(x) = Embed(id of the task) (Eq. 8), on inputs and candidates alike."""
    index = segment.facts.task
    if index is None:
        raise UserError(
            f"routing by task needs one of the {settings.tasks} tasks that the model was trained on; name it with task="
        )
    return _one_hot(index, settings.tasks)


def attribute(segment: Segment, settings: MoE) -> Code:
    """R(x) = LayerNorm(W Attr(x)), eight yes/no attributes of task and token (Eq. 9)."""
    return tuple(float(bit) for bit in LAYOUTS[settings.layout](segment))


CONDITIONS: dict[str, Condition] = {
    "token": OfValues(represent=token),
    "context": OfValues(represent=context, pools=True),
    "expert_choice": OfValues(represent=token, experts_choose=True),
    "modality": OfSegment(code=modality),
    "task": OfSegment(code=task, needs_task=True),
    "attribute": OfSegment(code=attribute, normed=True),
    "task_specific": OfSegment(code=task, gated=False, needs_task=True),
}


def condition_of(name: str) -> Condition:
    """The condition of that name.

    Raises:
        UserError: there is none; the nearest is offered.
    """
    if name not in CONDITIONS:
        raise UserError(f"moe.condition {name!r} is unknown; {nearest(name, ['shared', *CONDITIONS])}")
    return CONDITIONS[name]


def _one_hot(index: int, size: int) -> Code:
    return tuple(float(each == index) for each in range(size))
