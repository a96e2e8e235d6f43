"""What config.json holds of a model that reads pictures as regions."""

import dataclasses
from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveInt

from uniperceiver.strict import record

# What models have that were saved before there were these fields.
_LATER: dict[str, object] = {"encoder": 0, "attention": "deformable", "name_bias": False}


@record
class LibraryShape:
    """A backbone of the library transformers."""

    config: dict[str, Any]
    """Its configuration, as transformers writes it."""
    strides: tuple[PositiveInt, ...]
    """Pixels along a cell's side of each of its maps, finest first."""


@record
class RegionShape:
    """The shape of the network that turns a picture into proposals, and which of its outputs become tokens."""

    library: LibraryShape | None = None
    """A backbone of transformers; None: a plain one."""
    backbone_layers: PositiveInt = 3
    """Blocks of attention between the stem and the pyramid of maps, of a plain backbone."""
    levels: PositiveInt = 2
    """Maps of the pyramid, each with half the side of the one before."""
    encoder: NonNegativeInt = 0
    """Layers of deformable attention between the maps, before the decoder."""
    decoder: PositiveInt = 3
    """Layers of the query decoder."""
    queries: PositiveInt = 60
    """Places of the maps that are chosen by objectness and refined."""
    tokens: PositiveInt = 60
    """Proposals, the best by objectness, that become tokens; at most as many as there are queries."""
    attention: Literal["deformable", "dense", "dense_rpb"] = "deformable"
    """How queries look at the maps: at points around their boxes, or at all cells, without or with a bias by box."""
    points: PositiveInt = 4
    """Points that a head of deformable attention looks at in each map."""
    pooled: PositiveInt = 1
    """Global tokens made by attention pooling."""
    kinds: Literal["both", "global", "proposals"] = "both"
    """Which tokens the encoder reads behind <SPE>: global ones (pooled and coarsest map), proposals, or both."""
    masks: bool = False
    """Whether proposals have masks."""
    mask_stride: Literal[2, 4] = 4
    """Pixels along a side of a mask's pixel."""
    denoise: NonNegativeInt = 0
    """Noised boxes of things among the queries in training; 0: none."""
    name_bias: bool = False
    """Whether the logits of names have a bias, which tasks with class_term=sigmoid need."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for config.json; what came later stands there only where it says something."""
        values = dataclasses.asdict(self)
        return {key: value for key, value in values.items() if key not in _LATER or value != _LATER[key]}

    def __post_init__(self) -> None:
        if self.tokens > self.queries:
            raise ValueError(f"tokens: {self.tokens} proposals cannot be chosen among {self.queries} queries")
