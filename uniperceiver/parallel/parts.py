"""WHOLE TENSORS <-> PARTS: a tensor may be a part of one that several processes hold together (torch's DTensor).

Every function is the identity for tensors that are whole.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from uniperceiver.parallel.world import World

Groups = Mapping[str, Mapping[str, Tensor]]


def is_part(tensor: Tensor) -> bool:
    """Whether other processes hold the rest of it; asked by name, as the import of DTensor takes long."""
    return hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """What this process holds of it, in the same memory, without a gradient."""
    if not is_part(tensor):
        return tensor
    with torch.no_grad():
        held: Tensor = tensor.to_local()  # type: ignore[attr-defined]
        return held


def whole(tensor: Tensor) -> Tensor:
    """All of it; every process of the run must ask for the same tensors in the same order."""
    if not is_part(tensor):
        return tensor
    with torch.no_grad():
        gathered: Tensor = tensor.detach().full_tensor()  # type: ignore[attr-defined]
        return gathered


def part_like(tensor: Tensor, example: Tensor) -> Tensor:
    """A tensor that every process has whole, held as `example` is if it has its shape; nothing is sent."""
    if is_part(tensor) or not is_part(example) or tensor.shape != example.shape:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(example, DTensor)
    return distribute_tensor(tensor.to(example.device), example.device_mesh, example.placements, src_data_rank=None)


def gathered_by_first(groups: Groups, world: World) -> dict[str, dict[str, Tensor]]:
    """The same groups with whole tensors in the first process, and without parts of tensors in the others.

    Tensor by tensor, so that no process but the first ever holds more than one of them whole; it has them on the CPU.
    """
    result: dict[str, dict[str, Tensor]] = {}
    for group, tensors in groups.items():
        kept = result.setdefault(group, {})
        for name, tensor in tensors.items():
            if not is_part(tensor):
                kept[name] = tensor
                continue
            of_all = whole(tensor)
            if world.is_first:
                kept[name] = of_all.cpu()
    return result
