"""Model sizes by name."""

from dataclasses import dataclass

from uniperceiver.errors import UserError, nearest


@dataclass(frozen=True)
class ModelSize:
    """Width, layers, heads and patch side of a named model size; the FFN is four times as wide."""

    width: int
    layers: int
    heads: int
    patch: int


SIZES = {
    "nano": ModelSize(width=128, layers=5, heads=4, patch=8),
    "tiny": ModelSize(width=192, layers=12, heads=3, patch=16),
    "small": ModelSize(width=384, layers=12, heads=6, patch=16),
    "base": ModelSize(width=768, layers=12, heads=12, patch=16),
    "large": ModelSize(width=1024, layers=24, heads=16, patch=16),
}


def size_of(name: str) -> ModelSize:
    """Look up a named size.

    Raises:
        UserError: there is no such size.
    """
    if name not in SIZES:
        raise UserError(f"model.size {name!r} is unknown; {nearest(name, SIZES)}")
    return SIZES[name]
