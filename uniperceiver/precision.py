"""What is computed in float32 even where the rest is in 16 bit, and stays in float64 where all of it is."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it is."""
    return x if x.dtype == torch.float64 else x.float()
