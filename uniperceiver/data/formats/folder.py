"""A folder per class: images or clips, the sub-folder's name is the class.

Shape suffixes: I files.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uniperceiver.data.formats.files import (
    Strings,
    class_texts,
    existing_folder,
    listed_suffixes,
    printable,
    read_bytes,
    suffix_of,
)
from uniperceiver.errors import UserError, nearest
from uniperceiver.modalities import MODALITIES
from uniperceiver.records import Sample
from uniperceiver.strict import record

_SPLITS = frozenset({"train", "val", "valid", "validation", "dev", "test"})


@record
class FolderSource:
    """`path/CLASS/**/FILE`: sorted class names are the labels; hidden files are left out."""

    path: str
    """Folder with one sub-folder per class."""
    extensions: tuple[str, ...] | None = None
    """Take only these file types, such as [jpg, png]; None: every image or clip type that can be decoded."""

    def open(self, base: Path, where: str) -> "FolderData":
        """List the files."""
        root = existing_folder(base, self.path, where)
        suffixes = self._suffixes(where)
        names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
        if not names:
            raise UserError(f"{where}: {root}: no class folders; expected a sub-folder per class, named as the class")
        if _SPLITS.issuperset(names):
            raise UserError(f"{where}: {root} holds splits, not classes; give one of them, such as {root / names[0]}")
        files, labels = [], []
        for label, name in enumerate(names):
            class_files = sorted(_walk(root, name, suffixes))
            if not class_files:
                types = " ".join(suffixes)
                raise UserError(f"{where}: {root / name}: class folder without files ({types}); fill or remove it")
            files += class_files
            labels += [label] * len(class_files)
        return FolderData(
            root=root,
            class_names=tuple(map(printable, names)),
            files=Strings.of(files),
            label_I=np.array(labels, dtype=np.int32),
            modality=_modality(files, root, where),
        )

    def _suffixes(self, where: str) -> tuple[str, ...]:
        decoded = tuple(listed_suffixes())
        if self.extensions is None:
            return decoded
        chosen = tuple(extension.lower().lstrip(".") for extension in self.extensions)
        if unknown := [suffix for suffix in chosen if suffix not in decoded]:
            raise UserError(f"{where}: extensions: no decoder for {unknown[0]!r}; {nearest(unknown[0], decoded)}")
        return chosen


@dataclass(frozen=True, kw_only=True)
class FolderData:
    """The opened folder."""

    root: Path
    class_names: tuple[str, ...]
    files: Strings  # paths below `root`
    label_I: np.ndarray  # int32, index into class_names
    modality: str  # of the files

    @property
    def classes(self) -> tuple[tuple[str, ...], ...]:
        """Texts per class."""
        return class_texts(self.class_names)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> Sample:
        """The encoded file and its class."""
        file = self.files[index]
        data = read_bytes(self.root / file, printable(file))
        return Sample(id=printable(file), label=int(self.label_I[index])).with_value(self.modality, data)

    def names(self) -> Iterator[tuple[str, ...]]:
        """The path of each file below the folder."""
        return ((printable(file),) for file in self.files)

    def texts(self) -> Iterator[str]:
        """The class texts."""
        return (text for texts in self.classes for text in texts)


def _walk(root: Path, class_name: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Files of one class as paths below `root`, at any depth."""
    for folder, below, files in os.walk(root / class_name):
        below[:] = [name for name in below if not name.startswith(".")]
        inside = Path(folder).relative_to(root).as_posix()
        yield from (f"{inside}/{file}" for file in files if file[0] != "." and suffix_of(file) in suffixes)


def _modality(files: list[str], root: Path, where: str) -> str:
    """What the files are, which must be one thing."""
    modality_of = listed_suffixes()
    modalities = {modality_of[suffix_of(file)] for file in files}
    if len(modalities) > 1:
        nouns = " and ".join(f"{row.noun}s" for name, row in MODALITIES.items() if name in modalities)
        raise UserError(f"{where}: {root} mixes {nouns}; choose with `extensions`, such as [jpg, png] or [mp4]")
    return modalities.pop()
