"""What is made of a sample for one task (`pixels.py`), as tensors, and as pictures for people."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uniperceiver.config import AugmentConfig
from uniperceiver.data.media.clips import decode_clip
from uniperceiver.data.media.decode import decode_image
from uniperceiver.data.media.pixels import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGE_MEAN,
    IMAGE_STD,
    Decode,
    Preprocess,
    choose,
    clip_array,
    image_array,
)
from uniperceiver.data.media.sound_view import played_sound, sound_grid, spectrogram_picture
from uniperceiver.records import Sample

__all__ = ["CLIP_MEAN", "CLIP_STD", "IMAGE_MEAN", "IMAGE_STD", "READERS", "Decode", "MediaReader", "Preprocess"]


def image_pixels(
    sample: Sample, preprocess: Preprocess, augment: AugmentConfig | None, rng: np.random.Generator | None
) -> Tensor:
    """The sample's image as the model sees it, (1, 3, size, size) float32; augmented if `rng` is given."""
    return torch.from_numpy(image_array(sample, preprocess, augment, rng))


def clip_pixels(
    sample: Sample, preprocess: Preprocess, augment: AugmentConfig | None, rng: np.random.Generator | None
) -> Tensor:
    """The sample's clip as the model sees it, (frames, 3, size, size) float32; augmented if `rng` is given."""
    return torch.from_numpy(clip_array(sample, preprocess, augment, rng))


def image_shown(sample: Sample, preprocess: Preprocess) -> tuple[np.ndarray, ...]:
    """The sample's image for people, (H, W, 3) uint8."""
    assert sample.image is not None
    if isinstance(sample.image, bytes):
        return (decode_image(sample.image, sample.id, most_pixels=preprocess.most_pixels),)
    return (sample.image,)


def clip_shown(sample: Sample, preprocess: Preprocess) -> tuple[np.ndarray, ...]:
    """The frames of the sample's clip that a model looks at, for people, (H, W, 3) uint8 each."""
    assert sample.clip is not None
    if isinstance(sample.clip, bytes):
        most = preprocess.most_pixels
        return tuple(
            decode_clip(sample.clip, sample.id, lambda frames: choose(frames, preprocess, None, sample.moment), most)
        )
    return tuple(sample.clip[choose(len(sample.clip), preprocess, None, sample.moment)])


def image_shape(preprocess: Preprocess) -> tuple[int, ...]:
    """Of an image's pixels."""
    return 1, 3, preprocess.size, preprocess.size


def clip_shape(preprocess: Preprocess) -> tuple[int, ...]:
    """Of a clip's pixels."""
    return preprocess.frames, 3, preprocess.size, preprocess.size


def sound_values(
    sample: Sample, preprocess: Preprocess, augment: AugmentConfig | None, rng: np.random.Generator | None
) -> Tensor:
    """The sample's sound as the model hears it, (F, M) float32; a random part of it, augmented, if `rng` is given."""
    return torch.from_numpy(sound_grid(sample, preprocess, augment, rng))


def sound_grid_shape(preprocess: Preprocess) -> tuple[int, ...]:
    """Of a sound's grid."""
    assert preprocess.sound is not None
    return int(preprocess.sound.rows(preprocess.seconds, preprocess.hop)), preprocess.sound.columns


def milliseconds_of_rows(preprocess: Preprocess) -> float:
    """From row to row of a sound's grid."""
    assert preprocess.sound is not None
    return preprocess.sound.step(preprocess.hop)


@dataclass(frozen=True, kw_only=True)
class MediaReader:
    """What is made of a sample's field of one modality."""

    values: Callable[[Sample, Preprocess, AugmentConfig | None, np.random.Generator | None], Tensor]
    """What the model sees: one tensor of the same shape for every sample of a task; augmented if a generator is given.
    Raises BrokenSample where the field cannot be decoded."""
    shown: Callable[[Sample, Preprocess], tuple[np.ndarray, ...]] | None = None
    """Pictures for people, (H, W, 3) uint8 each; None: there is nothing to look at."""
    played: Callable[[Sample, Preprocess], bytes] | None = None
    """A WAV file for people; None: there is nothing to listen to."""
    in_time: bool = False
    """Whether it is a course in time, of which a part is taken at the sample's moment."""
    step: Callable[[Preprocess], float] | None = None
    """Milliseconds from row to row, where the values are a course in time; None: they are not."""
    shape: Callable[[Preprocess], tuple[int, ...]] | None = None
    """Of what the model sees, known before any sample is read; None: it is not."""


# One for each modality but text, whose reading is a matter of the kind of answer.
READERS: dict[str, MediaReader] = {
    "image": MediaReader(values=image_pixels, shown=image_shown, shape=image_shape),
    "video": MediaReader(values=clip_pixels, shown=clip_shown, in_time=True, shape=clip_shape),
    "audio": MediaReader(
        values=sound_values,
        shown=lambda sample, preprocess: (spectrogram_picture(sample, preprocess),),
        played=played_sound,
        in_time=True,
        shape=sound_grid_shape,
        step=milliseconds_of_rows,
    ),
}
