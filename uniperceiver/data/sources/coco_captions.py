"""COCO captions: a JSON file with `images` and `annotations`, and a folder of images."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uniperceiver.data.sources.files import Strings, existing_file, existing_folder, printable, read_bytes, read_json
from uniperceiver.errors import UserError
from uniperceiver.records import Sample
from uniperceiver.strict import record


@record
class CocoCaptionsSource:
    """A sample per captioned image, in the order of the file, with all its captions."""

    path: str
    """The JSON file, such as captions_train.json."""
    images: str
    """The folder that `file_name` counts from."""

    def open(self, base: Path, where: str) -> "CocoCaptionsData":
        """Read the JSON file and gather each image's captions."""
        path = existing_file(base, self.path, where)
        folder = existing_folder(base, self.images, f"{where}: images")
        document = read_json(path, where)
        files = _files(document, path, where)
        captions: dict[Any, list[str]] = {image: [] for image in files}
        for place, entry in enumerate(_entries(document, "annotations", path, where)):
            image, caption = _fields(entry, ("image_id", "caption"), f"annotations[{place}]", path, where)
            if image not in captions:
                raise UserError(f"{where}: {path}: annotations[{place}]: image_id {image!r} is not among the images")
            if text := str(caption).strip():
                captions[image].append(text)
        kept = [image for image in files if captions[image]]
        if not kept:
            raise UserError(f"{where}: {path}: no image has a caption; is this the captions file?")
        if not any(os.path.isfile(folder / files[image]) for image in kept):
            raise UserError(f"{where}: images: {folder} holds no image of {path.name}, not even {files[kept[0]]}")
        return CocoCaptionsData(
            folder=folder,
            files=Strings.of(files[image] for image in kept),
            captions=Strings.of(text for image in kept for text in captions[image]),
            stop_N=np.cumsum([len(captions[image]) for image in kept], dtype=np.int64),
        )


@dataclass(frozen=True, kw_only=True)
class CocoCaptionsData:
    """The opened file."""

    folder: Path
    files: Strings  # below `folder`
    captions: Strings  # of all images, one after the other
    stop_N: np.ndarray  # int64, end of each image's captions
    classes: None = None
    class_names: None = None

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> Sample:
        """The encoded image and its captions."""
        file = self.files[index]
        start = int(self.stop_N[index - 1]) if index else 0
        captions = tuple(self.captions[place] for place in range(start, int(self.stop_N[index])))
        image = read_bytes(self.folder / file, printable(file))
        return Sample(id=printable(file), image=image, captions=captions)

    def texts(self) -> Iterator[str]:
        """All captions."""
        return iter(self.captions)


def _files(document: Any, path: Path, where: str) -> dict[Any, str]:
    """File name by image id."""
    files: dict[Any, str] = {}
    for place, entry in enumerate(_entries(document, "images", path, where)):
        image, file = _fields(entry, ("id", "file_name"), f"images[{place}]", path, where)
        if image in files:
            raise UserError(f"{where}: {path}: images[{place}]: id {image!r} stands there twice")
        files[image] = str(file)
    return files


def _entries(document: Any, key: str, path: Path, where: str) -> list[Any]:
    entries = document.get(key) if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise UserError(
            f"{where}: {path}: no list {key!r}; expected COCO captions: {{images: [...], annotations: [...]}}"
        )
    return entries


def _fields(entry: Any, keys: tuple[str, str], place: str, path: Path, where: str) -> tuple[Any, Any]:
    for key in keys:
        if not isinstance(entry, dict) or not isinstance(entry.get(key), str | int):
            hint = "; is this an instances file? Give the captions file" if key == "caption" else ""
            raise UserError(f"{where}: {path}: {place} has no {key!r}{hint}")
    return entry[keys[0]], entry[keys[1]]
