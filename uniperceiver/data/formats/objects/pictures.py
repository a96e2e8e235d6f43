"""PICTURES WITH THINGS as files in folders: what the formats with a file per picture open to.

Shape suffixes: I pictures.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from uniperceiver.data.formats.files import Strings, as_spelt_there, printable, read_bytes
from uniperceiver.data.formats.objects.things import Things
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.records import Sample

_LOOKED_AT = 20  # pictures whose size is compared with that of their boxes when a set is opened


@dataclass(frozen=True, kw_only=True)
class MarkedPictures:
    """Pictures in folders, and the things in them."""

    folders: tuple[Path, ...]
    folder_I: np.ndarray  # int16, index into `folders`; -1: the picture is nowhere
    files: Strings  # below their folder
    things: Things
    class_names: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    category_ids: Mapping[str, int | str] = field(default_factory=dict)  # of the classes, in files that have such ids
    image_ids: Strings | None = None  # of the pictures, as JSON; None: files that have none

    @property
    def has_masks(self) -> bool:
        """Whether any thing has an outline."""
        return self.things.has_masks

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> Sample:
        """The encoded picture and the things in it."""
        name, image = printable(self.files[index]), read_bytes(self.path(index), printable(self.files[index]))
        return self.things.added(index, Sample(id=name, image=image))

    def path(self, index: int) -> Path:
        """Where a picture is."""
        return self.folders[max(0, int(self.folder_I[index]))] / self.files[index]

    def names(self) -> Iterator[tuple[str, ...]]:
        """The file name of each picture."""
        return ((printable(file),) for file in self.files)

    def labels_of(self, index_I: np.ndarray) -> frozenset[int]:
        """The classes that things of these pictures have."""
        return self.things.classes_of(index_I)

    def counts_of(self, index_I: np.ndarray) -> np.ndarray:
        """How many single things each of these pictures has."""
        return self.things.counts_of(index_I)

    def texts(self) -> Iterator[str]:
        """The class texts."""
        return (text for texts in self.classes for text in texts)


def refuse_other_sizes(pictures: MarkedPictures, place: str, where: str) -> None:
    """Refuse boxes that are for smaller or larger copies of the pictures, as far as the first pictures show.

    Raises:
        UserError: they are.
    """
    looked_at = 0
    for index in range(len(pictures)):
        if looked_at == _LOOKED_AT:
            return
        path = as_spelt_there(pictures.path(index))
        if pictures.folder_I[index] < 0 or not os.path.isfile(path):
            continue
        looked_at += 1
        try:
            pictures.read(index)
        except BrokenSample as error:
            # Any other damage costs its own picture, when its turn comes.
            if "set rescale: true" in error.reason:
                raise UserError(f"{where}: {place}: {error}") from None
