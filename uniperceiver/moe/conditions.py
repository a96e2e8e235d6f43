"""Routing conditions: what R(x) of Eq. 3 looks at, one function each.

A condition that reads no values is a function of the segment: its code, of which a learned embedding is made, so a
gate decides once for each segment group, the segments of one code. One that reads values is a function of a
half-block's input and its pooled context. Both kinds answer the same questions about themselves, so nobody has to ask
which kind a condition is. A condition of your own is one function and one line of the table
(examples/new_condition.py).

The eight attributes of a segment have two meanings of their bits. Layout `paper` (Uni-Perceiver-MoE, Table 2): 0 visual
in inputs, 1 text in inputs, 2 visual in targets, 3 text in targets, 4 token visual, 5 token text, 6 causal attention
mask, 7 token from inputs. Layout `release`, which the original weights need: 6 token from targets, 7 causal, and bit 0
set on every candidate.

Shape suffixes: B sequences, N tokens, D width, Z width of R(x).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from uniperceiver.errors import UserError, nearest
from uniperceiver.moe.settings import KINDS, MoE
from uniperceiver.records import Facts, Segment

Code = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class OfSegment:
    """A condition that reads no values: one decision for each segment group."""

    by_token: ClassVar[Literal[False]] = False  # so its experts merge into plain weights, and nothing needs balance
    experts_choose: ClassVar[bool] = False

    code: Callable[[Segment, MoE], Code]
    normed: bool = False  # R = LayerNorm(W code + b) instead of an embedding W code
    gated: bool = True  # False: the code, a one-hot vector, names the expert
    needs_task: bool = False  # only tasks of the run have a code

    def width(self, settings: MoE) -> int:
        """Entries of a code."""
        facts = Facts(side="input", inputs=("text",), targets=("text",), task=0)
        return len(self.code(Segment(start=0, stop=1, kind="text", causal=False, facts=facts), settings))

    def looks_at_neighbours(self, settings: MoE) -> bool:
        """Whether the experts of a token depend on the values of other tokens: never."""
        return False

    def not_causal(self, settings: MoE) -> str | None:
        """The key of a recipe by which a word's experts depend on the words after it; None: they do not."""
        return "moe.capacity" if settings.capacity else None


@dataclass(frozen=True, kw_only=True)
class OfValues:
    """A condition that reads the tokens themselves: a decision for each token."""

    by_token: ClassVar[Literal[True]] = True  # so no plain weight can take the experts' place, and they need balance
    gated: ClassVar[bool] = True
    needs_task: ClassVar[bool] = False

    represent: Callable[[Tensor, Tensor | None], Tensor]  # (x_BND, pooled_BD if `pools`) -> R, (B, N, Z)
    pools: bool = False  # the half-block's attention pooling is handed to `represent`
    experts_choose: bool = False  # each expert takes its tokens, instead of each token its experts

    def width(self, settings: MoE, tokens: int) -> int:
        """Entries of R(x) of tokens of that width."""
        return self.represent(torch.zeros(1, 1, tokens), torch.zeros(1, tokens)).shape[-1]

    def looks_at_neighbours(self, settings: MoE) -> bool:
        """Whether the experts of a token depend on the values of other tokens."""
        return self.pools or self.experts_choose or settings.capacity

    def not_causal(self, settings: MoE) -> str | None:
        """The key of a recipe by which a word's experts depend on the words after it; None: they do not."""
        if self.experts_choose:
            return "moe.condition"
        return "moe.capacity" if settings.capacity else None


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
    return one_hot(settings.kinds.index(segment.kind), len(settings.kinds))


def task(segment: Segment, settings: MoE) -> Code:
    """R(x) = Embed(id of the task) (Eq. 8), on inputs and candidates alike."""
    index = segment.facts.task
    if index is None:
        raise UserError(
            f"routing by task needs one of the {settings.tasks} tasks that the model was trained on; name it with task="
        )
    return one_hot(index, settings.tasks)


def attribute(segment: Segment, settings: MoE) -> Code:
    """R(x) = LayerNorm(W Attr(x)), eight yes/no attributes of task and token (Eq. 9).

    Three more behind them for each kind of tokens beside visual and text: whether it is in the inputs, in the targets,
    and whether the token is of it.
    """
    bits = LAYOUTS[settings.layout](segment)
    for kind in settings.kinds[len(KINDS) :]:
        bits += tuple(map(int, (kind in segment.facts.inputs, kind in segment.facts.targets, segment.kind == kind)))
    return tuple(map(float, bits))


def paper_bits(segment: Segment) -> tuple[int, ...]:
    """The attributes of a segment as the paper defines them, derived from its facts."""
    facts = segment.facts
    yes = (
        "visual" in facts.inputs,
        "text" in facts.inputs,
        "visual" in facts.targets,
        "text" in facts.targets,
        segment.kind == "visual",
        segment.kind == "text",
        segment.causal,
        facts.side == "input",
    )
    return tuple(map(int, yes))


def exchange(bits: Sequence[int]) -> tuple[int, ...]:
    """Paper's bits 6 and 7 as the release numbers them: a bijection on the 256 codes."""
    causal, from_inputs = bits[6], bits[7]
    return (*bits[:6], 1 - from_inputs, causal)


def release_bits(segment: Segment) -> tuple[int, ...]:
    """The attributes as the original weights were trained with them."""
    bits = exchange(paper_bits(segment))
    return (1, *bits[1:]) if segment.facts.side == "candidate" else bits


LAYOUTS = {"paper": paper_bits, "release": release_bits}

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


def one_hot(index: int, size: int) -> Code:
    """1 at that place, 0 elsewhere."""
    return tuple(float(place == index) for place in range(size))
