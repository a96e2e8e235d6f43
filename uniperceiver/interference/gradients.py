"""Gradients of chosen parameters as vectors: one group's norm, dot products of two, a running sum.

A gradient is a mapping from parameter names to tensors; a parameter that the loss does not reach is left out, which is
a part of zeros. Nothing here makes a copy of a gradient.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from uniperceiver.interference.groups import ParameterGroup

Gradient = dict[str, Tensor]


def gradient(loss: Tensor, parameters: Mapping[str, nn.Parameter]) -> Gradient:
    """Compute the gradient of a loss with respect to these parameters alone."""
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {name: value for name, value in zip(parameters, gradients, strict=True) if value is not None}


def dot(left: Mapping[str, Tensor], right: Mapping[str, Tensor], group: ParameterGroup) -> float:
    """Compute the dot product of two gradients' parts in a group."""
    names = [name for name in group.parameters if name in left and name in right]
    parts = [torch.dot(left[name].flatten(), right[name].flatten()) for name in names]
    return float(torch.stack(parts).double().sum()) if parts else 0.0


def norm(g: Mapping[str, Tensor], group: ParameterGroup) -> float:
    """Compute the length of a gradient's part in a group."""
    parts = [torch.linalg.vector_norm(g[name]) for name in group.parameters if name in g]
    return float(torch.linalg.vector_norm(torch.stack(parts).double())) if parts else 0.0


def add(total: Gradient, g: Mapping[str, Tensor], group: ParameterGroup, factor: float) -> None:
    """Add `factor` times the gradient's part in a group to `total`, in place."""
    for name in group.parameters:
        if name not in g:
            continue
        if name not in total:
            total[name] = torch.zeros_like(g[name])
        total[name].add_(g[name], alpha=factor)
