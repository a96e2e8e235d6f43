"""A module that every process holds whole: gradients of all processes become one, in the wrapper or by hand.

Both leave a parameter that no process used without a gradient, as one process would: an optimiser must not touch it.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from uniperceiver.parallel.world import World

_AT_ONCE = 2**25  # bytes of gradients that are reduced by hand together, as DistributedDataParallel's buckets


class Replicas:
    """The module under DistributedDataParallel, which takes the mean of the gradients of all processes.

    All but the last backward pass of a step stay in the process; the last one reduces what they have left, too.
    """

    def __init__(self, module: nn.Module) -> None:
        # Buffers, the biases of gates, are moved alike by all processes; torch 2.13 has a new name for that.
        parameters = inspect.signature(DistributedDataParallel.__init__).parameters
        own_buffers: dict[str, Any] = {
            "forward_sync_buffers" if "forward_sync_buffers" in parameters else "broadcast_buffers": False
        }
        self._wrapped = DistributedDataParallel(
            module, find_unused_parameters=True, gradient_as_bucket_view=True, **own_buffers
        )

    def __call__(self, *inputs: Any, last: bool) -> Any:
        """Call the module; a backward pass of what comes back reduces gradients if it is the last of the step."""
        with nullcontext() if last else self._wrapped.no_sync():
            return self._wrapped(*inputs)

    def reduce_with(self, reduce: Callable[[Tensor], object]) -> None:
        """Reduce each bucket of gradients by a function, in place, where the group's own reduction cannot be used."""

        def hook(_: object, bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:
            reduce(bucket.buffer())
            reduced: torch.futures.Future[Tensor] = torch.futures.Future()
            reduced.set_result(bucket.buffer())
            return reduced

        self._wrapped.register_comm_hook(None, hook)


@torch.no_grad()
def add_up(parameters: Mapping[str, nn.Parameter], gradients: Mapping[str, Tensor], world: World) -> dict[str, Tensor]:
    """Add up gradients over all processes, which may have those of different parameters.

    Args:
        parameters: all that may have a gradient, the same in every process.
        gradients: of this process, by the name of the parameter.

    Returns:
        The sums, for what at least one process has a gradient of, in the order of the parameters.
    """
    names = list(parameters)
    device = next(iter(parameters.values())).device
    there = torch.tensor([name in gradients for name in names], dtype=torch.int32, device=device)
    distributed.all_reduce(there, distributed.ReduceOp.MAX)
    used = [name for name, is_there in zip(names, there.tolist(), strict=True) if is_there]
    sums: dict[str, Tensor] = {}
    for bucket in _buckets(used, parameters):
        parts = [gradients[name] if name in gradients else torch.zeros_like(parameters[name]) for name in bucket]
        flat = torch.cat([part.reshape(-1) for part in parts])
        world.sum_(flat)
        views = flat.split([part.numel() for part in parts])
        sums |= {name: view.view_as(part) for name, view, part in zip(bucket, views, parts, strict=True)}
    return sums


def _buckets(names: Iterable[str], parameters: Mapping[str, nn.Parameter]) -> list[list[str]]:
    """The names in order, those together that have one type and do not take too much memory at once."""
    buckets: list[list[str]] = []
    size, dtype = 0, None
    for name in names:
        parameter = parameters[name]
        if not buckets or parameter.dtype != dtype or size + parameter.nbytes > _AT_ONCE:
            buckets.append([])
            size, dtype = 0, parameter.dtype
        buckets[-1].append(name)
        size += parameter.nbytes
    return buckets
