"""How a finished model is adapted to other data."""

from typing import Literal

from pydantic import Field, NonNegativeInt

from uniperceiver.strict import record


@record
class TuneConfig:
    """Adapting the model that `model.start` names: its size, its vocabulary and its experts stay what they are."""

    method: Literal["full", "prompt"] | None = None
    """None: the recipe describes its own model. full: all weights are tuned. prompt: only prompts, norms, the bias of
    <SPE> and what is asked for below; they are saved alone, beside the model they were made from."""
    vectors: NonNegativeInt = 10
    """prompt: vectors in front of the keys and values of each layer; 0: none."""
    shared: bool = True
    """prompt: candidates have the same vectors as inputs; false: vectors of their own."""
    head: bool = False
    """prompt: a linear map of the input's representation is added to the logits; for one task with classes."""
    labels: bool = False
    """prompt: a learned vector for each class between <SPE> and the name of the class; for one task with classes."""
    fraction: float = Field(default=1.0, gt=0, le=1)
    """Share of each training set that is used, drawn with `seed`; a smaller share lies in every larger one."""
