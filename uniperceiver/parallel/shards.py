"""A module of which every process holds a part: FSDP2 and, with several copies of the whole, HSDP.

`fully_shard` gathers the weights of a group of modules for their forward pass, and again for the backward pass, where
it also sends every process its part of the summed gradients. Much can go wrong in silence, so it is used in one form:

- A group is a list of modules that are each called exactly once in a pass, and the first of them gets the values that
  all others depend on. Everything else is in the root's group, whose weights are there from the forward pass of the
  root to the end of its backward pass.
- What modules of a group are called with beside tensors must come to them as it is. FSDP2 walks lists, mappings and
  dataclasses among the arguments and hands over copies of those with gradients in them: what is written into a copy,
  as decisions of gates are, would be lost. This is looked at in every call.
- Every process makes as many passes as the others, be it with nothing.
- FSDP2 gives a gradient of zeros to what nobody used, by which an optimiser would decay it. So it is noted where
  gradients come in, agreed by all, and the others are taken away.
- Scalars cannot be sharded; their gradients are added up by hand.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn

from uniperceiver.parallel.parts import local
from uniperceiver.parallel.world import World


def can_shard() -> bool:
    """Whether this torch has all that is needed: zeros for what nobody used came with 2.13."""
    from torch.distributed.fsdp import FSDPModule

    return hasattr(FSDPModule, "set_reduce_scatter_unused_params")


class ShardedModule:
    """A root module whose weights, gradients and moments are dealt to processes.

    Args:
        root: is changed: its parameters become parts.
        groups: modules inside it that are gathered together, in the order of their passes.
        size: processes that hold one copy together; `world.size` is a multiple of it.
        passes: how often every module of a group is called when the root is called once.
    """

    def __init__(
        self, root: nn.Module, groups: Sequence[Sequence[nn.Module]], world: World, *, size: int, passes: int
    ) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        self.root, self.world, self.size = root, world, size
        kind = next(root.parameters()).device.type
        names = ("replicas", "shards")
        mesh = init_device_mesh(kind, (world.size // size, size), mesh_dim_names=names)
        self._group = mesh.get_group("shards")
        mesh = mesh["shards"] if size == world.size else mesh
        scalars = {parameter for parameter in root.parameters() if parameter.ndim == 0}
        self._calls: list[_CallsOfModule] = []
        for modules in groups:
            calls = [_CallsOfModule(module) for module in modules]
            fully_shard(list(modules), mesh=mesh)
            for call, module in zip(calls, modules, strict=True):
                call.begin_with(module)
            self._calls += calls
        fully_shard(root, mesh=mesh, ignored_params=scalars)
        assert isinstance(root, FSDPModule)
        root.set_reduce_scatter_unused_params(True)
        self._passes = passes
        self._used: set[str] = set()
        self._noting = True
        self._note_gradients()

    def __call__(self, *inputs: Any) -> Any:
        """Call the root; a backward pass must follow before the next call, in every process."""
        for calls in self._calls:
            calls.count = 0
        result = self.root(*inputs)
        counts = {calls.count for calls in self._calls}
        if counts != {self._passes}:
            raise AssertionError(
                f"linears were called {', '.join(map(str, sorted(counts)))} times for one batch, and must be called "
                f"{self._passes} times by every process: their weights would not come together; set parallel.shard=1"
            )
        return result

    @contextmanager
    def nothing(self) -> Iterator[None]:
        """Within the block, backward passes count as those of no batch."""
        self._noting = False
        try:
            yield
        finally:
            self._noting = True

    def finish(self) -> set[str]:
        """Make the gradients in the parameters the means of all processes; none where no process had one.

        Returns:
            Names of the parameters that were used, as the root has them.
        """
        parameters = {name: value for name, value in self.root.named_parameters() if value.requires_grad}
        scalars = [value for value in parameters.values() if value.ndim == 0]
        own = [name in self._used if value.ndim else value.grad is not None for name, value in parameters.items()]
        flags = dict(zip(parameters, self.world.largest([int(flag) for flag in own]), strict=True))
        if scalars:
            parts = [torch.zeros_like(value) if value.grad is None else value.grad for value in scalars]
            sums = self.world.sum_(torch.stack(parts)) / self.world.size
            for value, total in zip(scalars, sums.unbind(0), strict=True):
                value.grad = total.clone()
        for name, parameter in parameters.items():
            if not flags[name]:
                parameter.grad = None
        self._used.clear()
        return {name for name, flag in flags.items() if flag}

    def clip(self, limit: float) -> Tensor:
        """The norm of all gradients, which are scaled down to `limit` if that is positive and smaller."""
        gradients = [(value.ndim, local(value.grad)) for value in self.root.parameters() if value.grad is not None]
        parts = [part for ndim, part in gradients if ndim]
        scalars = [part for ndim, part in gradients if not ndim]
        square = nn.utils.get_total_norm(parts).double().square()
        distributed.all_reduce(square, group=self._group)
        if scalars:
            square += nn.utils.get_total_norm(scalars).double().square()
        norm = square.sqrt().float()
        if limit > 0:  # as torch's clip_grads_with_norm_
            torch._foreach_mul_([*parts, *scalars], (limit / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def _note_gradients(self) -> None:
        """Be told by name of each whole parameter into which a gradient comes; they stay the same objects."""
        from torch.distributed.fsdp import FSDPModule

        noted: set[str] = set()

        def note(name: str, parameter: Tensor) -> None:
            if self._noting:
                self._used.add(name)

        # Of a group all modules are FSDP modules with one state: unsharding one of them unshards all.
        for module in [module for module in self.root.modules() if isinstance(module, FSDPModule)]:
            before = dict(self.root.named_parameters())
            module.unshard()
            for name, parameter in self.root.named_parameters():
                if parameter is before[name] or not parameter.requires_grad or name in noted:
                    continue
                noted.add(name)
                parameter.register_post_accumulate_grad_hook(partial(note, name))
            module.reshard()


class _CallsOfModule:
    """Counts the calls of a module, and makes sure that it gets what it is called with.

    Made before FSDP2's hooks, and told by `begin_with` when they are there.
    """

    def __init__(self, module: nn.Module) -> None:
        self.count = 0
        self._arguments: tuple[Any, ...] = ()
        module.register_forward_pre_hook(self.arrive)

    def begin_with(self, module: nn.Module) -> None:
        """Be the first to see what the module is called with."""
        module.register_forward_pre_hook(self.call, prepend=True)

    def call(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """The module was called."""
        self.count += 1
        self._arguments = inputs[1:]

    def arrive(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Refuse copies of what the module was called with beside its first tensor."""
        arguments, self._arguments = self._arguments, ()
        if any(arrived is not argument for arrived, argument in zip(inputs[1:], arguments, strict=True)):
            kinds = ", ".join(type(value).__name__ for value in inputs[1:])
            raise AssertionError(
                f"{type(module).__name__}: was handed a copy of its arguments ({kinds}) by FSDP2, and what is written "
                "into it would be lost; make a plain class of the dataclass"
            )
