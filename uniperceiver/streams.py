"""Named random streams: what is drawn is a function of (seed, names), never of who drew before."""

from __future__ import annotations  # torch is named by annotations only, and who draws no tensors goes without it

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_of(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream of that name, e.g. `seed_of(0, "masking", task, epoch, position)`."""
    text = "\x1f".join(f"{type(name).__name__}:{name}" for name in (seed, *names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def numpy_stream(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator for the stream of that name."""
    return np.random.Generator(np.random.PCG64(seed_of(seed, *names)))


def torch_stream(seed: int, *names: str | int) -> torch.Generator:
    """A CPU torch generator for the stream of that name."""
    import torch

    return torch.Generator().manual_seed(seed_of(seed, *names))
