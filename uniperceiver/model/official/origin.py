"""What config.json says of converted weights: the file they come from, and what was decided about them.

Names and shapes do not tell these things, and wrong ones give wrong answers without an error. So they stand beside the
architecture, and a model whose architecture says otherwise is refused.
"""

from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveInt

from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture
from uniperceiver.strict import record


@record
class Origin:
    """A checkpoint of the original release, and what was decided about it."""

    file: str
    """Its name, without folders."""
    sha256: str
    heads: PositiveInt
    positions: Literal["sincos", "table"]
    reference_grid: float
    layout: Literal["release", "none"]
    """Meaning of the attribute bits; none: no experts."""
    ffn_gates: Literal["shared", "own", "none"]
    """Whether the second linear of an FFN takes the decision of the first; none: no experts."""
    type_vector: Literal["folded", "added", "none"]
    """The visual type vector: in the patch bias already, added to it by the conversion, or not there at all."""
    merges: NonNegativeInt | None = None
    """How many of CLIP's merges the vocabulary has; None: it is another one."""


def decided(arch: Architecture) -> dict[str, Any]:
    """What an architecture says of the same things."""
    moe = arch.moe
    return {
        "heads": arch.heads,
        "positions": arch.spatial,
        "reference_grid": arch.reference_grid,
        "layout": "none" if moe is None else moe.layout,
        "ffn_gates": "none" if moe is None else "shared" if moe.ffn_gates == 1 else "own",
    }


def check_origin(origin: Origin | None, arch: Architecture, where: str) -> None:
    """Refuse an architecture that does not fit the weights' origin.

    Raises:
        UserError: it does not; the line says where.
    """
    if origin is None:
        return
    for name, value in decided(arch).items():
        if value != (recorded := getattr(origin, name)):
            raise UserError(
                f"{where}: says {name} {value}, but these weights of the original release ({origin.file}) were "
                f"converted with {name} {recorded}; restore config.json, or convert the file again"
            )
