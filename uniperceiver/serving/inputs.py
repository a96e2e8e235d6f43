"""What a user hands over as an image, clip or text, singly or in lists, becomes Samples."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from uniperceiver.data.media.decode import upright_rgb
from uniperceiver.errors import UserError, nearest
from uniperceiver.modalities import MODALITIES, TEXT, modality_of_file
from uniperceiver.records import Sample

# A path, encoded bytes, a PIL image, an (H, W, 3) or (3, H, W) array or tensor; clips have a leading frame axis.
Media = str | Path | bytes | Image.Image | np.ndarray | Tensor


def as_list(items: Any) -> list[Any]:
    """One thing or many as a list; a batch (an array or tensor with one axis too many) is taken apart by callers."""
    if isinstance(items, str | bytes | Path | Image.Image | np.ndarray | Tensor):
        return [items]
    return list(items)


def at_hand(items: Any) -> Any:
    """What was handed over; an iterator as a list, so that it can be looked at twice."""
    return list(items) if isinstance(items, Iterator) else items


def samples_of(modalities: Sequence[str], items: Any) -> list[Sample]:
    """A Sample per item, which has these modalities.

    Args:
        items: of the only modality; or a mapping from modalities to their items, equally many of each.

    Raises:
        UserError: no such file, an array of a wrong shape or type, a modality that is missing.
    """
    if not isinstance(items, Mapping):
        if len(modalities) > 1:
            raise UserError(f"give a mapping of {', '.join(modalities)} to inputs: this task looks at all of them")
        return _SAMPLES.get(modalities[0], partial(_other_samples, modalities[0]))(items)
    if set(items) != set(modalities):
        raise UserError(f"inputs of {', '.join(map(str, items))}; this task looks at {', '.join(modalities)}")
    by_modality = {modality: samples_of((modality,), items[modality]) for modality in modalities}
    counts = {modality: len(samples) for modality, samples in by_modality.items()}
    if len(set(counts.values())) > 1:
        raise UserError(f"inputs: give equally many of each modality, found {counts}")
    joined = by_modality.pop(modalities[0])
    for modality, samples in by_modality.items():
        values = [value for sample in samples if (value := sample.value(modality)) is not None]
        joined = [sample.with_value(modality, value) for sample, value in zip(joined, values, strict=True)]
    return joined


def image_samples(images: Media | Iterable[Media]) -> list[Sample]:
    """A Sample per image.

    Raises:
        UserError: no such file, or an array of a wrong shape or type.
    """
    if isinstance(images, np.ndarray | Tensor) and images.ndim == 4:
        images = list(images)  # a batch
    return [_image(item, f"image {place}") for place, item in enumerate(as_list(images))]


def clip_samples(clips: Media | Iterable[Media]) -> list[Sample]:
    """A Sample per clip; a list of frames is not a clip, an array of frames is.

    Raises:
        UserError: as for images.
    """
    if isinstance(clips, np.ndarray | Tensor) and clips.ndim == 5:
        clips = list(clips)
    return [_clip(item, f"clip {place}") for place, item in enumerate(as_list(clips))]


def text_samples(texts: str | Iterable[str]) -> list[Sample]:
    """A Sample per text.

    Raises:
        UserError: something that is no text, such as NaN, or one that is not valid UTF-8.
    """
    return [Sample(id=f"text {place}", text=_text(text, f"text {place}")) for place, text in enumerate(as_list(texts))]


def with_texts(samples: list[Sample], texts: str | Sequence[str] | None) -> list[Sample]:
    """The samples with a text beside each picture: one per sample, or the same for all.

    Raises:
        UserError: another number of texts than of samples.
    """
    if texts is None:
        return samples
    beside = [texts] * len(samples) if isinstance(texts, str) else list(texts)
    if len(beside) != len(samples):
        raise UserError(f"texts: {len(beside)} for {len(samples)} inputs; give one text for each, or one for all")
    return [
        replace(sample, text=_text(text, f"text {place}"))
        for place, (sample, text) in enumerate(zip(samples, beside, strict=True))
    ]


def modality_of(items: Any, named: str | None = None, *, text: bool = True) -> str:
    """The modality of what was handed over, by the first of it; of a mapping, its first key.

    A string is a path if it names a file or looks like one (a media suffix, or a slash and no space in it), else a
    text. An array with 3 axes is an image, with 4 a clip (give images as a list), with 5 a batch of clips. Bytes are an
    image.

    Args:
        named: what the user says that it is.
        text: whether it may be a text; else a string is a path.

    Raises:
        UserError: there is no such modality.
    """
    if isinstance(items, Mapping):
        named = next(iter(items), "")
    if named is not None:
        if named not in MODALITIES:
            raise UserError(f"unknown modality {named!r}; {nearest(named, MODALITIES)}")
        return named
    first = next(iter(as_list(items)), None)
    if isinstance(first, np.ndarray | Tensor):
        return "video" if first.ndim >= 4 else "image"
    if isinstance(first, str | Path):
        by_suffix = modality_of_file(Path(first).suffix)
        slashed = "/" in str(first) and " " not in str(first)
        is_path = isinstance(first, Path) or by_suffix is not None or slashed or _is_file(first)
        return by_suffix or "image" if is_path or not text else TEXT
    return "image"


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # too long for a name, or a null byte in it: a text
        return False


# How what people hand over is read; of other modalities it is taken as it is.
_SAMPLES: Mapping[str, Callable[[Any], list[Sample]]] = {
    "image": image_samples,
    "video": clip_samples,
    TEXT: text_samples,
}


def _other_samples(modality: str, items: Any) -> list[Sample]:
    """A Sample per file, bytes or array; an array is one item, a list of arrays are several."""
    samples = []
    for place, item in enumerate(as_list(items)):
        name = str(item) if isinstance(item, str | Path) else f"{MODALITIES[modality].noun} {place}"
        value = _bytes(item) if isinstance(item, str | Path) else item
        value = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        samples.append(Sample(id=name).with_value(modality, value))
    return samples


def _image(item: Media, name: str) -> Sample:
    if isinstance(item, str | Path):
        return Sample(id=str(item), image=_bytes(item))
    if isinstance(item, bytes):
        return Sample(id=name, image=item)
    if isinstance(item, Image.Image):
        return Sample(id=name, image=_pixels(item, name))
    return Sample(id=name, image=_array(item, name, axes=3))


def _clip(item: Media, name: str) -> Sample:
    if isinstance(item, str | Path):
        return Sample(id=str(item), clip=_bytes(item))
    if isinstance(item, bytes):
        return Sample(id=name, clip=item)
    return Sample(id=name, clip=_array(item, name, axes=4))


def _text(item: Any, name: str) -> str:
    if not isinstance(item, str):
        raise UserError(f"{name}: {item!r} is no text; give a string")
    try:
        item.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"{name}: not valid UTF-8 (character {error.start}); give another text") from None
    return item


def _pixels(image: Image.Image, name: str) -> np.ndarray:
    try:
        return upright_rgb(image)
    except (OSError, SyntaxError, ValueError) as error:  # opened, but read only now
        raise UserError(f"{name}: damaged image ({error}); give another one") from None


def _bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a file") from None


def _array(item: Any, name: str, axes: int) -> np.ndarray:
    """(..., H, W, 3) uint8 from bytes or floats in 0..1, channels first or last."""
    array = item.detach().cpu().numpy() if isinstance(item, Tensor) else np.asarray(item)
    if array.ndim != axes or 3 not in (array.shape[-1], array.shape[-3]) or 0 in array.shape:
        shapes = "(H, W, 3) or (3, H, W)" if axes == 3 else "(F, H, W, 3) or (F, 3, H, W)"
        raise UserError(f"{name}: an array of shape {array.shape}; expected {shapes}")
    if array.shape[-1] != 3:
        array = np.moveaxis(array, -3, -1)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating) or not (array.min() >= 0.0 and array.max() <= 1.0):
        raise UserError(f"{name}: values must be uint8, or floats from 0 to 1 (not normalised); found {array.dtype}")
    return np.ascontiguousarray((array * 255).round().astype(np.uint8))


def label_texts(labels: Sequence[str | Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Labels as texts per class; a class may have one text or several.

    Raises:
        UserError: no labels, an empty one, or a single text.
    """
    if isinstance(labels, str):
        raise UserError(f"labels: give a list of texts, such as [{labels!r}]")
    texts = tuple((label,) if isinstance(label, str) else tuple(label) for label in labels)
    if not texts or not all(names and all(name.strip() for name in names) for names in texts):
        raise UserError("labels: give at least one label, and a text for each")
    return texts
