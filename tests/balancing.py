"""Balancing methods on made-up tasks, and task gradients made of vectors.

Shape suffixes: K tasks, P parameters' numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from uniperceiver import OptimiserConfig, TaskBalanceConfig
from uniperceiver.optimisation.balance.method import Method, TaskFacts, Updated
from uniperceiver.optimisation.balance.methods import make
from uniperceiver.optimisation.balance.task_gradients import TaskGradients

NAMES = ("reading", "seeing", "a/b", "more")  # a slash is a part of file-like names, and of names in the state

ADAMW = OptimiserConfig(lr=0.1, weight_decay=0.2, betas=(0.8, 0.95), eps=1e-6)


def method(name: str, tasks: int = 3, *, seed: int = 0, loss_weight: float = 1.0, **config: Any) -> Method:
    """A method for so many tasks, drawn equally often."""
    facts = {name: TaskFacts(loss_weight=loss_weight, share=1 / tasks) for name in NAMES[:tasks]}
    return make(TaskBalanceConfig(method=name, **config), facts, seed)  # type: ignore[arg-type]


def gradients_of(vectors_KP: np.ndarray) -> TaskGradients:
    """Task gradients whose first numbers belong to a matrix, and the rest to a vector."""
    cut = vectors_KP.shape[1] // 2 * 2 - 2
    return TaskGradients(
        by_task={
            task: {
                "matrix": torch.tensor(vector_P[:cut]).reshape(2, -1),
                "vector": torch.tensor(vector_P[cut:]),
            }
            for task, vector_P in zip(NAMES, vectors_KP, strict=False)
        }
    )


def flat(gradient: Mapping[str, torch.Tensor]) -> np.ndarray:
    """The numbers of a gradient in the order of `gradients_of`."""
    return torch.cat([gradient["matrix"].flatten(), gradient["vector"].flatten()]).numpy()


def vectors(tasks: int, seed: int = 0, numbers: int = 8) -> np.ndarray:
    """vectors_KP of very different lengths."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((tasks, numbers)) * 10.0 ** rng.uniform(-1, 1, (tasks, 1))


def conflicting(tasks: int) -> np.ndarray:
    """vectors_KP of which some pair has an obtuse angle."""
    found = next(each for seed in range(100) if ((each := vectors(tasks, seed)) @ each.T).min() < 0)
    return found


def updated(losses: Sequence[float], again: Sequence[float] = (), gradients: TaskGradients | None = None) -> Updated:
    """A finished step whose tasks are the first of `NAMES`."""
    named, later = (dict(zip(NAMES, values, strict=False)) for values in (losses, again))
    return Updated(losses=named, again=lambda: later, gradients=gradients)


def layers(seed: int = 0) -> nn.Module:
    """Two linear layers in float64."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
