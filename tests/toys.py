"""Toy tasks that share the weights of a plain linear map, with gradients of known direction.

Shape suffixes: D inputs, O outputs, n batches.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from uniperceiver.interference.products import RepeatableLosses, TaskLoss
from uniperceiver.streams import torch_stream

Loss = Callable[[nn.Module, int], Tensor]  # of a batch of that number


class ToyLinear(nn.Linear):
    """A linear map that may stand in the place of a model whose weights are trained."""

    def weights_changed(self) -> None:
        """Nothing is kept of the old ones."""


def toy_model(inputs: int = 5, outputs: int = 3) -> nn.Module:
    """Two layers: "first" and "second" are the groups."""
    model = nn.Sequential()
    model.add_module("first", nn.Linear(inputs, 4))
    model.add_module("between", nn.Tanh())
    model.add_module("second", nn.Linear(4, outputs))
    stream = torch_stream(3, "toy")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=stream) / 8)
    return model


def towards(sign: float, noise: float = 0.3) -> Loss:
    """Squared distance from `sign` times a fixed target map; inputs and noise on the targets are drawn per batch."""

    def loss(model: nn.Module, batch: int) -> Tensor:
        stream, dtype = torch_stream(7, "batch", batch), next(model.parameters()).dtype
        x_BD = torch.randn(6, 5, generator=stream).to(dtype)
        target_BO = sign * x_BD[:, :3] + noise * torch.randn(6, 3, generator=stream).to(dtype)
        return (model(x_BD) - target_BO).pow(2).mean()

    return loss


def replay_of(model: nn.Module, losses: Sequence[Loss], batches: int) -> RepeatableLosses:
    """Every task's batches, task after task."""

    def losses_again() -> Iterator[TaskLoss]:
        for batch in range(batches):
            for task, loss in enumerate(losses):
                yield TaskLoss(task=task, batch=f"batch {batch}", loss=loss(model, 100 * task + batch))

    return losses_again
