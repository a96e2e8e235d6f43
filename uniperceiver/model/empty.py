"""A model without weights: its parameters have shapes, but no memory; they are filled from a file."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from uniperceiver.model.architecture import Architecture
from uniperceiver.model.build import build
from uniperceiver.model.model import Generalist


class _NoNumbers(TorchFunctionMode):
    """Draws and computes nothing on the meta device: to do that, torch first loads its compiler, 70 MB and a second."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        more = {**(kwargs or {}), "device": "cpu"} if func is torch.arange else kwargs or {}
        return func(*args, **more)


def empty_model(arch: Architecture, temperatures: Iterable[str]) -> Generalist:
    """A model of that architecture on torch's meta device."""
    with _NoNumbers(), torch.device("meta"):
        return build(arch, tuple(temperatures))
