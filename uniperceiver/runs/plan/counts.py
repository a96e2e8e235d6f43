"""MODEL -> COUNTS: exact numbers of parameters, and the bytes of what training keeps of them, by formula.

A parameter is float32, and so are its gradient, its moments and its average. What shards hold is computed for the form
of FSDP2 that this model family allows: the large linears of each block are gathered together, when their block needs
them; all other parameters are one group, which every process has whole from a batch's forward to its backward pass.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

Wrap = Literal["ddp", "fsdp", "hsdp"]
WRAPS: tuple[Wrap, ...] = get_args(Wrap)

_FLOAT = 4  # bytes
_AT_ONCE = 2  # groups that are whole at once: one computes while the next is gathered
# The linears of a block that are gathered together; gates, norms and scales are in the last group.
_GROUPED = re.compile(r"^encoder\.blocks\.(\d+)\.(?:attention\.(?:qkv|out)|ffn\.(?:linear1|linear2|experts))\.")
_PARTS = (
    ("experts", re.compile(r"\.experts\.")),
    ("gates", re.compile(r"\.router\.")),
    ("attention", re.compile(r"\.attention\.")),
    ("FFN", re.compile(r"\.ffn\.")),
    ("tokenizers", re.compile(r"^tokenizer\.")),
)


@dataclass(frozen=True, kw_only=True)
class ParameterCounts:
    """Numbers of parameters."""

    parameters: int
    trained: int
    by_part: Mapping[str, int]
    largest_group: int  # of a block's large linears, together
    root: int  # of what is in no such group
    moments: int  # numbers that the optimiser keeps
    average: int  # numbers of the moving average


def counts_of(model: nn.Module, moments: int, *, averages: bool) -> ParameterCounts:
    """Count the parameters of a model; its tensors may be on the meta device.

    Args:
        moments: numbers that the optimiser keeps for all parameters.
        averages: whether there is a moving average of the weights.
    """
    parts, groups, trained = Counter[str](), defaultdict[str, int](int), 0
    for name, parameter in model.named_parameters():
        size = parameter.numel()
        part = next((part for part, pattern in _PARTS if pattern.search(name)), "norms, head and others")
        parts[part] += size
        trained += size if parameter.requires_grad else 0
        if match := _GROUPED.match(name):
            groups[match[1]] += size
    total = sum(parts.values())
    return ParameterCounts(
        parameters=total,
        trained=trained,
        by_part=dict(parts),
        largest_group=max(groups.values(), default=0),
        root=total - sum(groups.values()),
        moments=moments,
        average=total if averages else 0,
    )


@dataclass(frozen=True, kw_only=True)
class Held:
    """Bytes of weights and of what belongs to them, in each process."""

    weights: int
    gradients: int
    moments: int
    average: int
    gathered: int = 0  # weights and gradients of others that are whole for a moment
    by_task: int = 0  # gradients of single tasks

    @property
    def total(self) -> int:
        """All together."""
        return self.weights + self.gradients + self.moments + self.average + self.gathered + self.by_task


def held(counts: ParameterCounts, shards: int, tasks: int = 0) -> Held:
    """What each process holds of weights, gradients, moments and average, at most: where every parameter is used.

    Args:
        shards: processes that share a copy; 1: each has its own (ddp).
        tasks: of a step whose gradients are kept apart.
    """

    def part(numbers: int) -> int:
        return -(-_FLOAT * numbers // shards)

    gathered = 0
    if shards > 1:
        trained = counts.trained / max(counts.parameters, 1)
        whole = _AT_ONCE * counts.largest_group + counts.root
        gathered = round(_FLOAT * whole * (1 + trained))
    return Held(
        weights=part(counts.parameters),
        gradients=part(counts.trained),
        moments=part(counts.moments),
        average=part(counts.average),
        gathered=gathered,
        by_task=tasks * _FLOAT * counts.trained,
    )


def shards_of(wrap: Wrap, size: int, per_machine: int) -> int:
    """Processes that share a copy of the weights: none, all, or those of a machine."""
    return {"ddp": 1, "fsdp": size, "hsdp": min(size, per_machine)}[wrap]


def sent(counts: ParameterCounts, wrap: Wrap, size: int, per_machine: int, batches: int, copies: int = 1) -> float:
    """Bytes that each process sends in a step for weights and gradients.

    A ring sends (W - 1) / W of a tensor to gather it, as much to add it up in parts, and twice that to add it up
    everywhere. With shards, each batch gathers the weights four times, in the forward and the backward pass of its
    inputs and of its candidates, and adds up gradients in parts twice.

    Args:
        batches: of a process in a step.
        copies: gradients that are reduced apart, of a method that wants those of single tasks.
    """
    shards = shards_of(wrap, size, per_machine)
    gradients, weights = _FLOAT * counts.trained, _FLOAT * counts.parameters
    if shards == 1:
        return 2 * (size - 1) / size * gradients * copies
    others = (shards - 1) / shards
    between = size // shards
    reduced = 2 * (between - 1) / between * gradients / shards
    return batches * (4 * weights + 2 * gradients) * others + reduced


def sent_for_candidates(candidates: int, width: int, size: int) -> float:
    """Bytes that each process sends so that all have what is encoded once for a step, and its gradients.

    Both are added up everywhere, rows of other processes as zeros.
    """
    return 2 * 2 * (size - 1) / size * _FLOAT * candidates * width
