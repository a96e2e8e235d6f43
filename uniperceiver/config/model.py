"""The model: its size, its vocabulary."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from uniperceiver.strict import record


@record
class ModelConfig:
    """The size and the vocabulary of the model."""

    size: Literal["nano", "tiny", "small", "base", "large"] = "nano"
    """A named size; `docs/method.md` lists width, layers, heads of each."""
    vocabulary: PositiveInt | Annotated[str, Field(strict=True)] = 2000
    """A number: a byte-level BPE of that many entries is trained on the recipe's own texts. A path: an existing
    tokenizer.json, or the CLIP vocabulary file (bpe_simple_vocab_16e6.txt.gz)."""
    lowercase: bool = True
    """Lower-case texts before the BPE that is trained here."""
    start: str | None = None
    """A run, a saved model directory or a hub id, of the same size: a new run begins with its weights, and with its
    vocabulary instead of one that is trained here. With `moe`, each expert of a dense start is a copy of its linear.
    A path starts at the recipe's folder, or else where the command is given."""
    patch: PositiveInt | None = None
    """Pixels along a patch's side; None: 8 for nano, 16 for the others."""
    patch_frames: PositiveInt = 1
    """Frames in a patch. 1, as the original: motion is found by attention; 2 or more: a token sees it, which small
    models on little data learn far sooner."""
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
    frame_offset: bool = True
    """Training clips start at a random row of the temporal table, drawn per batch."""
