"""What a user hands over as an image, clip or text, singly or in lists, becomes Samples."""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from uniperceiver.errors import UserError, nearest
from uniperceiver.modalities import MODALITIES, TEXT, modality_of_file
from uniperceiver.records import Sample
from uniperceiver.records.sounds import Sound
from uniperceiver.serving.engine.samples import ReadWhenAsked, same, samples_at_hand
from uniperceiver.serving.values import (
    Media,
    array_pixels,
    as_list,
    encoded,
    is_array,
    name_of,
    other_value,
    picture_pixels,
    refuse_unreadable,
    shown,
    sound_value,
)

_ENDS_AS_FILE = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}")
_Row = TypeVar("_Row")


def samples_of(modalities: Sequence[str], items: Any) -> ReadWhenAsked:
    """A Sample per item, which has these modalities.

    Args:
        items: of the only modality; or a mapping from modalities to their items, equally many of each.

    Raises:
        UserError: no such file, an array of a wrong shape or type, a modality that is missing.
    """
    # A clip's file may hold its sound, which then need not be given.
    needed = [modality for modality in modalities if MODALITIES[modality].track_of not in modalities]
    if not isinstance(items, Mapping):
        if len(needed) > 1:
            raise UserError(f"give a mapping of {', '.join(modalities)} to inputs: this task looks at all of them")
        modalities = needed
        return _SAMPLES.get(modalities[0], partial(_other_samples, modalities[0]))(items)
    if not set(needed) <= set(items) <= set(modalities):
        raise UserError(f"inputs of {', '.join(map(str, items))}; this task looks at {', '.join(modalities)}")
    modalities = [modality for modality in modalities if modality in items]
    by_modality = {modality: samples_of((modality,), items[modality]) for modality in modalities}
    counts = {modality: len(samples) for modality, samples in by_modality.items()}
    if len(set(counts.values())) > 1:
        raise UserError(f"inputs: give equally many of each modality, found {counts}")
    first = by_modality.pop(modalities[0])

    def joined(sample: Sample, place: int) -> Sample:
        for modality, samples in by_modality.items():
            value = samples[place].value(modality)
            assert value is not None
            sample = sample.with_value(modality, value)
        return sample

    return first.changed(joined)


def image_samples(images: Media | Iterable[Media]) -> ReadWhenAsked:
    """A Sample per image.

    Raises:
        UserError: no such file, or an array of a wrong shape or type.
    """
    if is_array(images) and images.ndim == 4:
        images = list(images)  # a batch
    return _media_samples("image", images, partial(_media_value, axes=3))


def clip_samples(clips: Media | Iterable[Media]) -> ReadWhenAsked:
    """A Sample per clip; a list of frames is not a clip, an array of frames is.

    Raises:
        UserError: as for images.
    """
    if is_array(clips) and clips.ndim == 5:
        clips = list(clips)
    return _media_samples("video", clips, partial(_media_value, axes=4))


def text_samples(texts: str | Iterable[str]) -> ReadWhenAsked:
    """A Sample per text.

    Raises:
        UserError: something that is no text, such as NaN, or one that is not valid UTF-8.
    """
    return samples_at_hand([Sample(id=f"text {place}", text=text) for place, text in enumerate(text_list(texts))])


def text_list(texts: str | Iterable[str]) -> tuple[str, ...]:
    """One text or many, each of them checked.

    Raises:
        UserError: as `text_samples`.
    """
    return tuple(checked_text(text, f"text {place}") for place, text in enumerate(as_list(texts)))


def with_texts(samples: ReadWhenAsked, texts: str | Iterable[str] | None) -> ReadWhenAsked:
    """The samples with a text beside each picture: one per sample, or the same for all.

    Raises:
        UserError: another number of texts than of samples.
    """
    if texts is None:
        return samples
    beside = text_list(texts)
    if isinstance(texts, str):
        beside *= len(samples)
    if len(beside) != len(samples):
        raise UserError(f"texts: {len(beside)} for {len(samples)} inputs; give one text for each, or one for all")
    return samples.changed(lambda sample, place: replace(sample, text=beside[place]))


def places_by_modality(items: Any) -> Mapping[str, list[int]]:
    """Where in a list of paths the images are, and where the clips; empty where they are not mixed."""
    things = items if isinstance(items, list | tuple) else ()
    if not all(isinstance(item, str | os.PathLike) for item in things):
        return {}
    places: dict[str, list[int]] = {}
    for place, item in enumerate(things):
        places.setdefault(modality_of_file(Path(item).suffix) or "", []).append(place)
    return places if len(places) > 1 and "" not in places else {}


def in_order(
    places: Mapping[str, list[int]], items: Any, ask: Callable[[str, list[Any]], Iterable[_Row]]
) -> list[_Row]:
    """What is answered about the items of each modality, in the order of the items."""
    rows: dict[int, _Row] = {}
    for modality, chosen in places.items():
        rows |= zip(chosen, ask(modality, [items[place] for place in chosen]), strict=True)
    return [rows[place] for place in sorted(rows)]


def modality_of(items: Any, named: str | None = None, *, text: bool = True) -> str:
    """The modality of what was handed over, by the first of it; of a mapping, its first key.

    A string is a path if it ends as an image or clip does, or has a slash and no space in it; else it is a text. An
    array with 3 axes is an image, 5 axes are a batch of clips. Bytes and opened files are images; a Sound is a sound.

    Args:
        named: what the user, or the task that is asked, says that it is.
        text: whether it may be a text; else a string is a path.

    Raises:
        UserError: there is no such modality; an array with one axis, as a sound without its rate; or there are two
            readings: an array with 4 axes (images, or one clip), a text that is called as a file.
    """
    if isinstance(items, Mapping):
        named = next(iter(items), "")
    if named is not None:
        if not isinstance(named, str) or named not in MODALITIES:
            raise UserError(f"unknown modality {shown(named)}; {nearest(str(named), MODALITIES)}")
        return named
    things = as_list(items)
    first = things[0] if things else None
    if isinstance(first, Sound):
        return "audio"
    if is_array(first):
        if first.ndim == 1:
            sound_value(first, "input 0")
        if first is items and first.ndim == 4:
            raise UserError(
                f"an array of shape {tuple(first.shape)} is {len(first)} images, or one clip of {len(first)} frames: "
                "give list(array) for images, [array] for a clip, or task= the name of a task"
            )
        return "video" if first.ndim >= 4 else "image"
    if not isinstance(first, str | os.PathLike):
        return "image"
    if not text or _is_path(first):
        return modality_of_file(Path(first).suffix) or "image"
    for place, thing in enumerate(things):
        if isinstance(thing, str) and (_is_path(thing) or _may_be_file(thing)):
            raise UserError(
                f"text {place}: {shown(thing)} is a text, or the name of a file: give pathlib.Path(...), or say "
                "modality='text'"
            )
    return TEXT


def _is_path(name: str | os.PathLike[str]) -> bool:
    if not isinstance(name, str):
        return True
    return modality_of_file(Path(name).suffix) is not None or ("/" in name and " " not in name)


def _may_be_file(name: str) -> bool:
    """Whether a text is called as a file of another kind, or as something that is there."""
    try:
        is_there = any(map(str.isalnum, name)) and Path(name).exists()  # "" and "." would be this folder
        return is_there or _ENDS_AS_FILE.fullmatch(Path(name).suffix) is not None
    except (OSError, ValueError):  # too long for a name, or a null byte in it: a text
        return False


def _other_samples(modality: str, items: Any) -> ReadWhenAsked:
    """A Sample per file, bytes or array; an array is one item, a list of arrays are several."""
    samples = []
    for place, item in enumerate(as_list(items)):
        name = name_of(item, f"{MODALITIES[modality].noun} {place}")
        samples.append(Sample(id=name).with_value(modality, other_value(item, name)))
    return samples_at_hand(samples)


def _media_samples(
    modality: str, items: Any, value_of: Callable[[Media, str], bytes | np.ndarray | Sound]
) -> ReadWhenAsked:
    """A Sample per image, clip or sound; files are read later, and everything else at once."""
    reads = list[Callable[[], Sample]]()
    for place, item in enumerate(as_list(items)):
        name = name_of(item, f"{MODALITIES[modality].noun} {place}")

        def read(item: Media = item, name: str = name) -> Sample:
            return Sample(id=name).with_value(modality, value_of(item, name))

        if isinstance(item, str | os.PathLike):
            refuse_unreadable(item, name)
            reads.append(read)
        else:
            reads.append(partial(same, read()))
    return ReadWhenAsked(tuple(reads))


# How what people hand over is read; of other modalities it is taken as it is.
_SAMPLES: Mapping[str, Callable[[Any], ReadWhenAsked]] = {
    "image": image_samples,
    "video": clip_samples,
    "audio": partial(_media_samples, "audio", value_of=sound_value),
    TEXT: text_samples,
}


def _media_value(item: Media, name: str, axes: int) -> bytes | np.ndarray:
    if axes == 3 and isinstance(item, Image.Image):
        return picture_pixels(item, name)
    data = encoded(item, name)
    return array_pixels(item, name, axes) if data is None else data


def checked_text(item: Any, name: str) -> str:
    """A text.

    Args:
        name: what messages call it.

    Raises:
        UserError: it is none, or not valid UTF-8.
    """
    if not isinstance(item, str):
        raise UserError(f"{name}: {shown(item)} is no text; give a string")
    try:
        item.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"{name}: not valid UTF-8 (character {error.start}); give another text") from None
    return item
