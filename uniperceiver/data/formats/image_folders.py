"""Folders of images that a file names: which folder holds which image.

Shape suffixes: I images.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uniperceiver.data.formats.files import existing_folder
from uniperceiver.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ImageFolders:
    """One or several folders that hold the images of a file."""

    folders: tuple[Path, ...]
    where: str  # begins messages

    @property
    def text(self) -> str:
        """Their names, for messages."""
        return " and ".join(map(str, self.folders))

    def indices_of(self, files: Sequence[str], path: Path) -> np.ndarray:
        """Which folder holds each image, (I,) int16; -1 where none does.

        Args:
            path: the file that names the images.

        Raises:
            UserError: no folder holds any of them, or two hold the same.
        """
        folder_I = np.array(folder_indices(self.folders, files, self.where), dtype=np.int16)
        if len(files) and (folder_I < 0).all():
            hold = "hold" if len(self.folders) > 1 else "holds"
            raise UserError(f"{self.where}: {self.text} {hold} no image of {path.name}, not even {files[0]}")
        return folder_I


def image_folders(base: Path, images: str | Sequence[str], where: str) -> ImageFolders:
    """The folders that a source's key `images` names, each once.

    Raises:
        UserError: there is none, or one does not exist.
    """
    named = (images,) if isinstance(images, str) else images
    folders = tuple(dict.fromkeys(existing_folder(base, folder, f"{where}: images") for folder in named))
    if not folders:
        raise UserError(f"{where}: key 'images' is an empty list; name the folder of the images")
    return ImageFolders(folders=folders, where=f"{where}: images")


def folder_indices(folders: Sequence[Path], files: Sequence[str], where: str) -> list[int]:
    """The folder that holds each file, -1 where none does."""
    listed = [frozenset(os.listdir(folder)) for folder in folders]  # far faster than to ask for each file
    indices = []
    for file in files:
        nested = "/" in file
        holding = [
            index
            for index, folder in enumerate(folders)
            if (os.path.isfile(folder / file) if nested else file in listed[index])
        ]
        if len(holding) > 1:
            first, second = (folders[index] for index in holding[:2])
            raise UserError(f"{where}: {file} is in {first} and in {second}; name only the folder that is meant")
        indices.append(holding[0] if holding else -1)
    return indices
