"""Gradients of chosen parameters as vectors: one group's norm, dot products of two, a running sum.

A gradient is a mapping from parameter names to tensors; a parameter that the loss does not reach is left out, which is
a part of zeros. Nothing here makes a copy of a gradient.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from uniperceiver.interference.groups import Group

Gradient = dict[str, Tensor]


def gradient(loss: Tensor, parameters: Mapping[str, nn.Parameter]) -> Gradient:
    """The gradient of a loss with respect to these parameters alone."""
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {name: each for name, each in zip(parameters, found, strict=True) if each is not None}


def dot(one: Mapping[str, Tensor], other: Mapping[str, Tensor], group: Group) -> float:
    """The dot product of two gradients' parts in a group."""
    parts = [
        torch.dot(one[name].flatten(), other[name].flatten())
        for name in group.parameters
        if name in one and name in other
    ]
    return float(torch.stack(parts).double().sum()) if parts else 0.0


def norm(one: Mapping[str, Tensor], group: Group) -> float:
    """The length of a gradient's part in a group."""
    parts = [torch.linalg.vector_norm(one[name]) for name in group.parameters if name in one]
    return float(torch.linalg.vector_norm(torch.stack(parts).double())) if parts else 0.0


def add(total: Gradient, one: Mapping[str, Tensor], group: Group, factor: float) -> None:
    """total += factor x the gradient's part in a group."""
    for name in group.parameters:
        if name not in one:
            continue
        if name not in total:
            total[name] = torch.zeros_like(one[name])
        total[name].add_(one[name], alpha=factor)
