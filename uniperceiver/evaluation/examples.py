"""A question that a model was asked, with its answers, to be looked at.

Shape suffixes: H and W pixels, C red, green and blue.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Example:
    """Holds one sample as the model saw it, what is right, and what the model answered."""

    task: str
    split: str
    sample: str  # the sample's name
    frames: tuple[np.ndarray, ...] = ()  # image_HWC, uint8; a single one: an image, several: a clip, none: text only
    text: str = ""  # a text that was read
    truth: tuple[str, ...] = ()  # right answers, or the captions that people wrote
    answers: tuple[
        tuple[str, float | None], ...
    ] = ()  # with probability, best first; None or NaN: without a probability
    right: bool | None = None  # None: not a matter of right or wrong
