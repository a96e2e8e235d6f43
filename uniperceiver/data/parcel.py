"""What a loader process hands over: small tensors travel as arrays, inside the message.

Torch would put each of them into shared memory of its own and hand over a file descriptor, which takes milliseconds
a tensor (docs/performance.md). Large ones, the pixels, still go that way: they would be copied through a pipe.
"""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

_SMALL = 2**16  # bytes: what a pipe holds


class _Small:
    """A small tensor on its way."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array


def packed(item: Any) -> Any:
    """The item with small tensors as arrays, also those inside records, lists and tuples."""
    return _swapped(item, lambda value: _Small(value.numpy()) if _is_small(value) else value)


def unpacked(item: Any) -> Any:
    """What was packed."""
    # Cloned: memory of torch's own lies where its kernels round alike.
    return _swapped(item, lambda value: torch.from_numpy(value.array).clone() if isinstance(value, _Small) else value)


def _is_small(value: Any) -> bool:
    """NumPy has no bfloat16."""
    return isinstance(value, Tensor) and value.nbytes <= _SMALL and value.dtype != torch.bfloat16


def _swapped(item: Any, swap: Callable[[Any], Any]) -> Any:
    """The same structure with its leaves swapped; what has nothing to swap stays the same object."""
    if type(item) in (tuple, list):
        parts = [_swapped(each, swap) for each in item]
        return item if all(one is other for one, other in zip(parts, item, strict=True)) else type(item)(parts)
    if is_dataclass(item) and not isinstance(item, type):
        values = {field.name: getattr(item, field.name) for field in fields(item) if field.init}
        parts_of = {name: _swapped(value, swap) for name, value in values.items()}
        changes = {name: part for name, part in parts_of.items() if part is not values[name]}
        return replace(item, **changes) if changes else item
    return swap(item)
