"""The optimisers that a recipe can name."""

from collections.abc import Callable

import torch
from torch import nn

from uniperceiver.config import OptimiserConfig
from uniperceiver.optimisation.adamw import adamw
from uniperceiver.optimisation.muon import muon

OPTIMISERS: dict[str, Callable[[nn.Module, OptimiserConfig], torch.optim.Optimizer]] = {"adamw": adamw, "muon": muon}
