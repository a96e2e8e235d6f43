"""Sounds: what a model that hears makes of them."""

from typing import Literal

from pydantic import Field, PositiveInt

from uniperceiver.strict import record


@record
class SoundConfig:
    """What becomes of sounds before the encoder, where a task hears; all sounds of a model alike."""

    rate: int = Field(default=16000, ge=1000, le=768_000)
    """Samples a second, to which sounds are brought; half of it is the highest frequency that is heard."""
    kind: Literal["spectrogram", "waveform"] = "spectrogram"
    """spectrogram: frames of log-mel; waveform: the samples themselves, in rows."""
    mels: PositiveInt | None = None
    """spectrogram: bands of the mel scale; None: 64."""
    patch: tuple[PositiveInt, PositiveInt] | None = None
    """What becomes a token: frames and bands, None: [16, 16]; of a waveform rows, and samples in a row, None:
    [1, 256]."""
