"""What config.json holds: everything needed to rebuild a model, and where it differs from the original release."""

import dataclasses
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from uniperceiver.moe.conditions import condition_of
from uniperceiver.moe.merged_blocks import Merged
from uniperceiver.moe.settings import MoE
from uniperceiver.records.sounds import SoundShape
from uniperceiver.strict import record
from uniperceiver.tokenizers.join import USUAL
from uniperceiver.tokenizers.regions.shape import RegionShape


@record
class PromptShape:
    """What prompt tuning added to a model."""

    vectors: NonNegativeInt = 10
    """Deep prompts of each layer."""
    candidates: NonNegativeInt = 0
    """Deep prompts of each layer for candidates; 0: they have those of inputs."""
    classes: NonNegativeInt = 0
    """Outputs of the linear head that is added to the logits of a task with classes; 0: none."""
    labels: NonNegativeInt = 0
    """Classes with a vector of their own between <SPE> and the class name; 0: none."""


@record
class Architecture:
    """The shape of a model and its deliberate differences from the original release."""

    width: PositiveInt
    layers: PositiveInt
    heads: PositiveInt
    ffn: PositiveInt
    patch: PositiveInt
    """Pixels along a patch's side."""
    patch_frames: PositiveInt = 1
    """Frames in a patch; the original release has 1."""
    stem: Literal["linear", "conv"] = "linear"
    """linear: a linear map of each patch, as the original release; conv: convolutions of stride 2 before it."""
    vocabulary: PositiveInt
    end: int
    """Id of the token that ends every text."""
    answer: int
    """Id of <SPE>."""
    max_text: PositiveInt = 512
    max_frames: PositiveInt = 8
    layer_scale: float = 1e-3
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    spatial: Literal["sincos", "table"] = "sincos"
    """sincos: positions are computed for the grid at hand; table: a stored table, interpolated for other grids."""
    reference_grid: float = 10.0
    """sincos: the range of coordinates that every picture spans (the original: 160 / 16 = 10)."""
    table_grid: PositiveInt = 14
    """table: rows and columns of the stored table."""
    tokenizers: tuple[str, ...] = USUAL
    """Which tokenizers it has: keys of `tokenizers.join.TOKENIZERS`, in that order."""
    readout: Literal["answer", "mean"] = "answer"
    """Where an answer is read that stands in no text; answer: at the first <SPE>, as in the original; mean: over all
    tokens."""
    frame_offset: bool = True
    """Training clips start at a random temporal row, one per batch."""
    random_still_row: bool = False
    """True as in the original: still images, too, get a random temporal row in training (here: always row 0)."""
    likelihood_float32: bool = True
    """False as in the original: cosines and softmax in the autocast type (here: always float32)."""
    accuracy_in_loss: bool = False
    """True as in the original: the logged loss includes the batch accuracy, without gradient."""
    literal_specials: bool = False
    """True as in the original: a literal <|spe|> in a text is the special token (here: plain text)."""
    max_scale: float = 100.0
    """exp(temperature) is clamped to this; beyond it the temperature has no gradient."""
    moe: MoE | None = None
    """Conditional experts; None: a dense model."""
    regions: RegionShape | None = None
    """What turns a still picture into regions; None: patches."""
    sound: SoundShape | None = None
    """What a sound is for it; None: none of its tasks hears."""
    prompts: PromptShape | None = None
    """What prompt tuning added; None: nothing."""
    merged: Merged | None = None
    """The rows of weights that these experts were folded into; None: they were not."""

    def __post_init__(self) -> None:
        if self.merged is not None and self.moe is None:
            raise ValueError("merged: needs moe, which says whose rows these are")

    def to_json(self) -> dict[str, Any]:
        """Plain values for config.json; what came later stands there only where it says something."""
        values = dataclasses.asdict(self)
        if self.moe is not None:
            values["moe"] = self.moe.to_json()
        if self.regions is not None:
            values["regions"] = self.regions.to_json()
        usual = {"tokenizers": USUAL, "stem": "linear", "readout": "answer", "regions": None, "sound": None}
        return {key: value for key, value in values.items() if key not in usual or value != usual[key]}

    @property
    def needs_task(self) -> bool:
        """Whether only tasks that the model was trained on can be asked, as each has parameters of its own."""
        return self.moe is not None and condition_of(self.moe.condition).needs_task


def notes_on(arch: Architecture) -> list[str]:
    """Say what a user of this model should know before metrics are computed."""
    notes = []
    if arch.moe is not None and arch.moe.capacity:
        notes.append(
            "moe.capacity: an expert that is full leaves tokens out, so figures depend on which samples share a batch "
            "and on its size"
        )
    if arch.moe is not None and arch.moe.group == "batch":
        notes.append(
            "moe.group=batch: experts choose among the tokens of all samples that are encoded together, so figures "
            "depend on which samples share a batch and on its size"
        )
    return notes
