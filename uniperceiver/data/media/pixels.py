"""What is made of a sample for one task, as arrays of NumPy: sizes, statistics and text length; saved with the model.

Nothing here needs torch, so that a model that was exported sees what the model itself sees (`uniperceiver/runner/`).
"""

import dataclasses
import math
from typing import Literal

import numpy as np

from uniperceiver.config import AugmentConfig
from uniperceiver.data.media.clips import decode_clip
from uniperceiver.data.media.decode import MOST_PIXELS, decode_image
from uniperceiver.data.media.geometry import NARROWEST, Fit
from uniperceiver.data.media.transforms import choose_frames, eval_view, normalise, train_view
from uniperceiver.errors import BrokenSample
from uniperceiver.records import Sample
from uniperceiver.records.sounds import SoundShape
from uniperceiver.strict import record

IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as the original release
CLIP_MEAN, CLIP_STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
Decode = Literal["full", "draft"]
_SPARE = 2  # times the pixels that are seen, which a draft of a whole picture keeps


@record
class Preprocess:
    """Preprocessing of one task's samples."""

    size: int = 64  # pixels along a side, after resizing and cropping
    frames: int = 4  # per clip
    stride: int = 1  # between the frames taken from a clip
    seconds: float = 5.12  # of a sound that are heard
    hop: float = 32.0  # milliseconds from frame to frame of a spectrogram
    sound: SoundShape | None = None  # what a sound is for the model; None: the task does not hear
    length: int = 64  # tokens of the longest text, the end token counted
    image_mean: tuple[float, float, float] = IMAGE_MEAN
    image_std: tuple[float, float, float] = IMAGE_STD
    clip_mean: tuple[float, float, float] = CLIP_MEAN
    clip_std: tuple[float, float, float] = CLIP_STD
    megapixels: float = MOST_PIXELS / 10**6  # most of an image or frame as it is decoded
    fit: Fit = "crop"  # what becomes the square: the central one, or all of the picture, squashed
    decode: Decode = "full"  # draft: a JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that is enough

    @property
    def most_pixels(self) -> int:
        """The same in pixels."""
        return round(self.megapixels * 10**6)

    def decoded(self, image: bytes | np.ndarray, name: str, augment: AugmentConfig | None = None) -> np.ndarray:
        """The pixels of an image, (H, W, 3) uint8, as large as the view that is made of them asks for.

        Args:
            image: an encoded file, or pixels, which are given as they are.
            augment: augmentation in training: a part of the picture may become the whole view.

        Raises:
            BrokenSample: it cannot be decoded.
        """
        if not isinstance(image, bytes):
            return image
        at_least = None
        if self.decode == "draft":
            share = 1.0 if augment is None else math.sqrt(augment.crop * NARROWEST)  # of the picture's shorter side
            at_least = math.ceil(self.size * max(_SPARE, 1 / share))
        return decode_image(image, name, at_least, self.most_pixels)

    def to_json(self) -> dict[str, object]:
        """Plain values for preprocess.json; what was not always there is written where it is another than it was."""
        values = dataclasses.asdict(self)
        if self.megapixels == MOST_PIXELS / 10**6:
            del values["megapixels"]
        if self.fit == "crop":
            del values["fit"]
        if self.decode == "full":
            del values["decode"]
        if self.sound is None:
            del values["seconds"], values["hop"], values["sound"]
        return values


def image_array(
    sample: Sample, preprocess: Preprocess, augment: AugmentConfig | None = None, rng: np.random.Generator | None = None
) -> np.ndarray:
    """The sample's image as the model sees it, (1, 3, size, size) float32; augmented if `rng` is given."""
    if sample.image is None:
        raise BrokenSample(sample.id, "has no image")
    image = preprocess.decoded(sample.image, sample.id, augment)
    return _seen(image[None], preprocess, preprocess.image_mean, preprocess.image_std, augment, rng)


def clip_array(
    sample: Sample, preprocess: Preprocess, augment: AugmentConfig | None = None, rng: np.random.Generator | None = None
) -> np.ndarray:
    """The sample's clip as the model sees it, (frames, 3, size, size) float32; augmented if `rng` is given."""
    if sample.clip is None:
        raise BrokenSample(sample.id, "has no clip")
    if isinstance(sample.clip, bytes):
        frames = decode_clip(
            sample.clip,
            sample.id,
            lambda frames: choose(frames, preprocess, rng, sample.moment),
            preprocess.most_pixels,
        )
    else:
        frames = sample.clip[choose(len(sample.clip), preprocess, rng, sample.moment)]
    return _seen(frames, preprocess, preprocess.clip_mean, preprocess.clip_std, augment, rng)


def choose(
    available: int, preprocess: Preprocess, rng: np.random.Generator | None, moment: float | None = None
) -> np.ndarray:
    """Indices of the frames that are taken from a clip of that many."""
    return choose_frames(available, preprocess.frames, preprocess.stride, rng, moment)


def _seen(
    frames_THWC: np.ndarray,
    preprocess: Preprocess,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    augment: AugmentConfig | None,
    rng: np.random.Generator | None,
) -> np.ndarray:
    if rng is None or augment is None:
        seen_THWC = eval_view(frames_THWC, preprocess.size, preprocess.fit)
    else:
        seen_THWC = train_view(frames_THWC, preprocess.size, augment, rng, preprocess.fit)
    return normalise(seen_THWC, mean, std)
