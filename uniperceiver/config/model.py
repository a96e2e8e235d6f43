"""The model: its size, its vocabulary, and how a finished one is adapted to other data."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from uniperceiver.config.regions import RegionsConfig
from uniperceiver.config.sounds import SoundConfig
from uniperceiver.strict import record


@record
class ModelConfig:
    """Wish for a model: its size and its vocabulary.

    What becomes of it in numbers is `model.architecture.Architecture`, which is saved with the weights: a named size is
    resolved there, the vocabulary counted, and old models and converted ones have shapes that no recipe can ask for.
    """

    size: str = "nano"
    """A named size: nano, tiny, small, base, large; `docs/method.md` lists width, layers, heads of each."""
    vocabulary: PositiveInt | Annotated[str, Field(strict=True)] = 2000
    """A number: a byte-level BPE of that many entries is trained on the recipe's own texts. A path: an existing
    tokenizer.json, or the CLIP vocabulary file (bpe_simple_vocab_16e6.txt.gz)."""
    lowercase: bool = True
    """Lower-case texts before the BPE that is trained here."""
    start: str | None = None
    """A run, a saved model directory or a hub id, of the same size: a new run begins with its weights, and with its
    vocabulary instead of one that is trained here. With `moe`, each expert of a dense start is a copy of its linear.
    A path starts at the recipe's folder, or else where the command is given."""
    start_step: PositiveInt | Literal["best"] | None = None
    """Of a start that is a run: the weights of its checkpoint of this step, or of its best one; None: its last."""
    patch: PositiveInt | None = None
    """Pixels along a patch's side; None: 8 for nano, 16 for the others."""
    patch_frames: PositiveInt = 1
    """Frames in a patch. 1, as the original: motion is found by attention; 2 or more: a token sees it, which small
    models on little data learn far sooner."""
    stem: Literal["linear", "conv"] = "linear"
    """What pictures go through first. linear: a linear map of each patch, as the original; conv: 3x3 convolutions of
    stride 2 (patch a power of 2), with which small models learn from pictures in far fewer steps."""
    image: Literal["patches", "regions"] = "patches"
    """What a still picture becomes. patches, as the original and v1; regions, as v2: global tokens and proposals, which
    object_detection and instance_segmentation need, and which all tasks on pictures then read."""
    regions: RegionsConfig = RegionsConfig()
    """regions: the network that makes the proposals."""
    sound: SoundConfig = SoundConfig()
    """What becomes of sounds, where a task hears."""
    width: PositiveInt | None = None
    """Overrides the width of the named size."""
    layers: PositiveInt | None = None
    """Overrides the number of layers of the named size."""
    heads: PositiveInt | None = None
    """Overrides the number of attention heads of the named size."""
    max_text: PositiveInt = 512
    """Rows of the text position table: no text part may be longer."""
    max_frames: PositiveInt = 8
    """Rows of the temporal position table; longer clips are interpolated."""
    layer_scale: float = 0.1
    """Initial value of LayerScale (the original release starts at 0.001, for much longer runs)."""
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping a branch of a layer, per sample, in training."""
    readout: Literal["answer", "mean"] = "answer"
    """Where an answer that stands in no text is read. answer: at the <SPE> before all tokens, as the original; mean:
    the mean over all tokens, as IMP does."""
    frame_offset: bool = True
    """Training clips start at a random row of the temporal table, drawn per batch."""


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
