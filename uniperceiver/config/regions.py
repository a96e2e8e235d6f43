"""Regions: how a model that reads pictures as proposals is made."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from uniperceiver.strict import record


@record
class RegionsConfig:
    """The network that turns a picture into proposals, where `model.image` is regions; plain numbers of its parts."""

    backbone: str = "plain"
    """plain: a stem of convolutions and a few blocks, from scratch. transformers:NAME: a backbone of the library
    transformers with its weights, by its name on the Hugging Face hub or its folder (ResNet, Swin, DINOv2, ...)."""
    backbone_layers: PositiveInt = 3
    """Blocks of attention between the stem of convolutions and the pyramid of maps, of a plain backbone."""
    levels: PositiveInt = 2
    """Maps of the pyramid; the first has a cell for each patch, each other half the side of the one before."""
    encoder: NonNegativeInt | None = None
    """Layers in which the cells of all maps look at each other (deformable attention) before proposals are made of
    them; None: 6 for a library's backbone of more than one map, else 0."""
    decoder: PositiveInt = 3
    """Layers that refine the proposals."""
    queries: PositiveInt = 60
    """Places that are chosen by objectness and refined; at least as many as there are things in any picture."""
    tokens: PositiveInt | None = None
    """Proposals, the best by objectness, that become tokens of the encoder; None: all of `queries`."""
    attention: Literal["deformable", "dense", "dense_rpb"] = "deformable"
    """What a proposal looks at in the maps. deformable: a few points around its box; dense: all cells; dense_rpb: all
    cells, with scores that also depend on where a cell lies beside the box."""
    points: PositiveInt = 4
    """Points that a head of the deformable attention looks at in each map."""
    pooled: PositiveInt = 1
    """Global tokens made by attention pooling."""
    kinds: Literal["both", "global", "proposals"] = "both"
    """Which tokens the encoder reads behind <SPE>: global, for the whole picture; proposals; or both."""
    mask_stride: Literal[2, 4] | None = None
    """Pixels along the side of a mask's pixel; None: 2 where all pictures have at most 128 pixels a side, else 4."""
    denoise: NonNegativeInt = 0
    """Noised boxes of things that are queries in training, too; 0: none."""
