"""WHAT IS EMBEDDED: files by their paths, or samples of a data set as its format reads them, by their number."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from uniperceiver.data.formats import Source
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.modalities import modality_of_file
from uniperceiver.serving.values import Media

MODALITIES_READ = ("image", "video", "audio")
_LOOKED_AT = 8  # samples that stand for all of a set: reading it whole would take as long as embedding it


@dataclass(frozen=True, kw_only=True)
class EmbeddedItem:
    """A picture or clip, or why there is none."""

    name: str
    modality: str = ""
    media: Media | None = None
    error: str | None = None


class EmbeddedItems(Protocol):
    """Any number of pictures and clips, in an order that stays."""

    def __len__(self) -> int:
        """How many there are."""

    def read(self, place: int) -> EmbeddedItem:
        """The one at a place."""

    def fingerprint(self) -> str:
        """A SHA-256 by which they are told from others."""


class FileItems:
    """Files by their paths.

    Raises:
        UserError: a name is no picture or clip.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self._files = files
        for name in files:
            if modality_of_file(Path(name).suffix) not in MODALITIES_READ:
                raise UserError(f"{name}: is no picture, clip or sound by its name; leave it out of the list")

    def __len__(self) -> int:
        return len(self._files)

    def read(self, place: int) -> EmbeddedItem:
        """The file at a place, which is opened when it is looked at."""
        name = self._files[place]
        return EmbeddedItem(name=name, modality=modality_of_file(Path(name).suffix) or "", media=Path(name))

    def fingerprint(self) -> str:
        """Of the paths."""
        return sha256("\n".join(self._files).encode()).hexdigest()


class SourceItems:
    """The samples of a data set, by the names that its format gives them.

    Args:
        described: what a recipe says of it, as plain values; a part of what tells it from others.
    """

    def __init__(self, source: Source, described: Any) -> None:
        self._source, self._described = source, described

    def __len__(self) -> int:
        return len(self._source)

    def read(self, place: int) -> EmbeddedItem:
        """The picture or clip of a sample."""
        try:
            sample = self._source.read(place)
        except BrokenSample as error:
            return EmbeddedItem(name=error.sample, error=str(error))
        for modality in MODALITIES_READ:
            value = sample.value(modality)
            if value is not None and not isinstance(value, str):
                return EmbeddedItem(name=sample.id, modality=modality, media=value)
        return EmbeddedItem(name=sample.id, error=f"{sample.id}: has no picture, clip or sound")

    def fingerprint(self) -> str:
        """Of what a recipe says, the number of samples, and the names of some that lie evenly over the set."""
        size, count = len(self), min(_LOOKED_AT, len(self))
        names = [self.read(place * (size - 1) // max(count - 1, 1)).name for place in range(count)]
        return sha256(json.dumps([self._described, size, names], sort_keys=True, default=str).encode()).hexdigest()
