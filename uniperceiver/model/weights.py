"""Weights on their way from and to files."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """A tensor by which saved weights do not fit a model; both shapes are empty where only one of the two has it."""

    name: str
    saved: tuple[int, ...] = ()
    expected: tuple[int, ...] = ()
    in_both: bool


def first_misfit(expected: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> Misfit | None:
    """The first tensor, by name, that only one of the two has, or that differs in shape; None if all fit."""
    for name in sorted({*expected, *saved}):
        if name not in saved or name not in expected:
            return Misfit(name=name, in_both=False)
        if expected[name].shape != saved[name].shape:
            return Misfit(name=name, saved=tuple(saved[name].shape), expected=tuple(expected[name].shape), in_both=True)
    return None


def with_own_storage(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors on the CPU of which no two share memory, as safetensors wants them."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        separate[name] = tensor
    return separate
