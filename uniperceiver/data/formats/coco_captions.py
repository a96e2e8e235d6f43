"""COCO captions: a JSON file with `images` and `annotations`, and folders of images.

Shape suffixes: I images.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uniperceiver.data.formats.files import (
    Strings,
    existing_file,
    first_frames,
    printable,
    read_bytes,
    read_json,
)
from uniperceiver.data.formats.image_folders import image_folders
from uniperceiver.data.formats.tables.values import left_out_captions
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.records import Sample
from uniperceiver.strict import record


@record
class CocoCaptionsSource:
    """A sample per captioned image, in the order of the file, with all its captions."""

    path: str
    """The JSON file, such as captions_train.json."""
    images: str | tuple[str, ...]
    """The folder that `file_name` counts from, or several; each image is in one of them."""

    def open(self, base: Path, where: str) -> "CocoCaptionsData":
        """Read the JSON file and gather each image's captions."""
        path = existing_file(base, self.path, where)
        folders = image_folders(base, self.images, where)
        document = read_json(path, where)
        files = _files(document, path, where)
        captions, notes = _captions(document, files, path, where)
        kept = [image for image in files if captions[image]]
        if not kept:
            raise UserError(f"{where}: {path}: no image has a caption; is this the captions file?")
        names = [files[image] for image in kept]
        folder_I = folders.indices_of(names, path)
        return CocoCaptionsData(
            folders=folders.folders,
            folder_I=folder_I,
            files=Strings.of(names),
            captions=Strings.of(text for image in kept for text in captions[image]),
            stop_I=np.cumsum([len(captions[image]) for image in kept], dtype=np.int64),
            notes=(*notes, *first_frames(folders.text, names)),
        )


@dataclass(frozen=True, kw_only=True)
class CocoCaptionsData:
    """The opened file."""

    folders: tuple[Path, ...]
    folder_I: np.ndarray  # int16, index into `folders`; -1: the image was nowhere
    files: Strings  # below their folder
    captions: Strings  # of all images, one after the other
    stop_I: np.ndarray  # int64, end of each image's captions
    notes: tuple[str, ...] = ()
    classes: None = None
    class_names: None = None

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> Sample:
        """The encoded image and its captions."""
        file = self.files[index]
        start = int(self.stop_I[index - 1]) if index else 0
        captions = tuple(self.captions[number] for number in range(start, int(self.stop_I[index])))
        captions = tuple(caption for caption in captions if printable(caption) == caption)
        if not captions:
            raise BrokenSample(printable(file), "a caption is not valid UTF-8")
        image = read_bytes(self.folders[max(0, int(self.folder_I[index]))] / file, printable(file))
        return Sample(id=printable(file), image=image, captions=captions)

    def names(self) -> Iterator[tuple[str, ...]]:
        """The file name of each image."""
        return ((printable(file),) for file in self.files)

    def texts(self) -> Iterator[str]:
        """All captions."""
        return (caption for caption in self.captions if printable(caption) == caption)


def _files(document: Any, path: Path, where: str) -> dict[Any, str]:
    """File name by image id."""
    files: dict[Any, str] = {}
    entries = _entries(document, "images", path, where)
    whole = [number for number, entry in enumerate(entries) if _has_fields(entry, ("id", "file_name"))]
    if entries and not whole:
        _fields(entries[0], ("id", "file_name"), "images[0]", path, where)
    for number in whole:
        image, file = entries[number]["id"], entries[number]["file_name"]
        if image in files:
            raise UserError(f"{where}: {path}: images[{number}]: id {image!r} stands there twice")
        files[image] = str(file)
    return files


def _captions(
    document: Any, files: Mapping[Any, str], path: Path, where: str
) -> tuple[dict[Any, list[str]], tuple[str, ...]]:
    """The captions of every image, and lines about those that are left out.

    Raises:
        UserError: no annotation has a caption, or none belongs to an image.
    """
    captions: dict[Any, list[str]] = {image: [] for image in files}
    entries = _entries(document, "annotations", path, where)
    if entries and not any(isinstance(entry, dict) and "caption" in entry for entry in entries):
        _fields(entries[0], ("image_id", "caption"), "annotations[0]", path, where)
    damaged = strangers = 0
    for entry in entries:
        image, caption = (entry.get("image_id"), entry.get("caption")) if isinstance(entry, dict) else (None, None)
        text = str(caption).strip() if isinstance(caption, str | int | float) else ""
        damaged += not text or printable(text) != text
        if not isinstance(image, str | int | float) or image not in captions:  # 3.0 and 3 are one key
            strangers += 1
        elif text:
            captions[image].append(text)
    if strangers and strangers == len(entries):
        image, _ = _fields(entries[0], ("image_id", "caption"), "annotations[0]", path, where)
        alike = next((other for other in files if str(other) == str(image)), None)
        reason = (
            "are these parts of two files?"
            if alike is None
            else f"their ids are of another type, such as {alike!r}; write both as numbers, or both as texts"
        )
        raise UserError(
            f"{where}: {path}: annotations[0]: image_id {image!r} is not among the images, nor is that of any other; "
            f"{reason}"
        )
    without = sum(not texts for texts in captions.values())
    nameless = len(document["images"]) - len(files)
    return captions, (
        *left_out_captions(path, damaged),
        *([f"{path}: left out, being of images that are not in the file: {strangers:,} captions"] if strangers else []),
        *([f"{path}: {nameless:,} images without id or file_name are left out"] if nameless else []),
        *([f"{path}: {without:,} of {len(files):,} images have no caption and are left out"] if without else []),
    )


def _entries(document: Any, key: str, path: Path, where: str) -> list[Any]:
    entries = document.get(key) if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise UserError(
            f"{where}: {path}: no list {key!r}; expected COCO captions: {{images: [...], annotations: [...]}}"
        )
    return entries


def _has_fields(entry: Any, keys: Sequence[str]) -> bool:
    """Whether an entry has texts or numbers under those keys."""
    return isinstance(entry, dict) and all(isinstance(entry.get(key), str | int | float) for key in keys)


def _fields(entry: Any, keys: tuple[str, str], name: str, path: Path, where: str) -> tuple[Any, Any]:
    for key in keys:
        if not _has_fields(entry, (key,)):
            hint = "; is this an instances file? Give the captions file" if key == "caption" else ""
            raise UserError(f"{where}: {path}: {name} has no {key!r}{hint}")
    return entry[keys[0]], entry[keys[1]]
