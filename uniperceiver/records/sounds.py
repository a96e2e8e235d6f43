"""Sounds: as people hand them over, and as a model takes them.

Shape suffixes: L samples of a sound, F frames (rows of a grid), M bands of the mel scale or samples of a row.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, PositiveInt

from uniperceiver.strict import record


@dataclass(frozen=True)
class Sound:
    """Samples of a sound in memory, and how many of them are a second.

    Example:
        >>> import numpy as np
        >>> from uniperceiver import Sound
        >>> Sound(np.zeros((44100, 2), np.int16), 44100).rate
        44100
    """

    array: np.ndarray  # (L,) or (L, channels), float32 with full scale 1, or int16
    rate: int  # samples a second


@record
class SoundShape:
    """What a sound is for a model: a grid (F, M), cut into patches."""

    rate: PositiveInt = 16000
    """Samples a second, to which all sounds are brought."""
    kind: Literal["spectrogram", "waveform"] = "spectrogram"
    """spectrogram: a row is a frame of log-mel; waveform: so many samples, one after the other."""
    mels: PositiveInt = 64
    """spectrogram: bands of the mel scale."""
    patch: tuple[PositiveInt, PositiveInt] = (16, 16)
    """Rows and columns of a patch; waveform: rows, and samples in a row."""
    mean: float = 0.0
    """Of the values of the training sounds, which is taken off."""
    deviation: float = Field(default=1.0, gt=0)
    """Their standard deviation, by which they are divided."""

    @property
    def is_measured(self) -> bool:
        """Whether mean and deviation are those of sounds."""
        return (self.mean, self.deviation) != (0.0, 1.0)

    @property
    def columns(self) -> int:
        """M, what a row has."""
        return self.mels if self.kind == "spectrogram" else self.patch[1]

    def row(self, hop: float) -> int:
        """Samples from one row to the next, for frames that lie `hop` milliseconds apart."""
        return max(1, round(hop * self.rate / 1000)) if self.kind == "spectrogram" else self.patch[1]

    def step(self, hop: float) -> float:
        """The same in milliseconds."""
        return 1000 * self.row(hop) / self.rate

    def rows(self, seconds: float, hop: float) -> float:
        """F, rows of so many seconds; not a whole number where they do not fit."""
        return round(seconds * self.rate) / self.row(hop)
