"""A folder per class: images, clips or sounds, the sub-folder's name is the class.

Shape suffixes: I files.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uniperceiver.data.formats.class_list import ClassList, read_classes
from uniperceiver.data.formats.files import (
    LINKED,
    Strings,
    class_texts,
    composed,
    existing_folder,
    first_frames,
    listed_suffixes,
    not_taken,
    printable,
    read_bytes,
    seen,
    suffix_of,
)
from uniperceiver.data.media.decode import missing_decoders
from uniperceiver.errors import UserError, listed, nearest
from uniperceiver.modalities import MODALITIES
from uniperceiver.records import Sample
from uniperceiver.strict import record

_SPLITS = frozenset({"train", "val", "valid", "validation", "dev", "test"})


@record
class FolderSource:
    """`path/CLASS/**/FILE`: sorted class names are the labels; hidden files are left out and counted."""

    path: str
    """Folder with one sub-folder per class."""
    extensions: tuple[str, ...] | None = None
    """Take only these file types, such as [jpg, png]; None: all that can be decoded."""
    classes: str | tuple[str, ...] | None = None
    """Class names in label order, or a file that lists them, perhaps with their texts; a class may then be without a
    sub-folder or without files. None: the sub-folders, sorted."""

    def open(self, base: Path, where: str) -> "FolderData":
        """List the files."""
        root = existing_folder(base, self.path, where)
        suffixes = self._suffixes(where)
        left_out = Counter[str]()
        inside = sorted(seen(os.listdir(root), left_out))
        folders = [name for name in inside if (root / name).is_dir()]
        if not folders:
            raise UserError(f"{where}: {root}: no class folders; expected a sub-folder per class, named as the class")
        if _SPLITS.issuperset(folders):
            raise UserError(f"{where}: {root} holds splits, not classes; give one of them, such as {root / folders[0]}")
        listed_classes = self._classes(folders, base, where)
        names = listed_classes.names
        forms = {composed(name) for name in names}
        if unknown := next(
            (name for name in folders if composed(printable(name)) not in forms and name not in names), None
        ):
            raise UserError(f"{where}: {root / unknown}: this class is not in `classes`; {nearest(unknown, names)}")
        left_out.update(suffix_of(name) for name in inside if name not in folders)
        files, labels, folder_of = [], [], {composed(folder): folder for folder in folders}
        for label, name in enumerate(names):
            folder = name if name in folders else folder_of.get(composed(name), name)
            class_files = sorted(_walk(root, folder, suffixes, left_out))
            if not class_files and self.classes is None:
                raise UserError(
                    f"{where}: {root / name}: class folder without files ({' '.join(suffixes)}); fill it, remove it in "
                    "every split, or list all classes in key 'classes' of every split"
                )
            files += class_files
            labels += [label] * len(class_files)
        if not files:
            raise UserError(f"{where}: {root}: no file in any class folder ({' '.join(suffixes)}); check the path")
        return FolderData(
            root=root,
            class_names=tuple(map(printable, names)),
            classes=listed_classes.texts,
            files=Strings.of(files),
            label_I=np.array(labels, dtype=np.int32),
            modality=_modality(files, root, where),
            notes=(*not_taken(root, left_out), *first_frames(root, files)),
        )

    def _classes(self, folders: Sequence[str], base: Path, where: str) -> ClassList:
        """The classes that the recipe lists, or the sub-folders."""
        if self.classes is not None:
            return read_classes(base, self.classes, where)
        return ClassList(names=tuple(folders), texts=class_texts(map(printable, folders)))

    def _suffixes(self, where: str) -> tuple[str, ...]:
        decoded = tuple(listed_suffixes())
        if self.extensions is None:
            return decoded
        chosen = tuple(extension.lower().lstrip(".") for extension in self.extensions)
        if unknown := [suffix for suffix in chosen if suffix not in decoded]:
            if mend := missing_decoders().get(unknown[0]):
                raise UserError(f"{where}: extensions: {unknown[0]} needs a package of its own: {mend}")
            raise UserError(f"{where}: extensions: no decoder for {unknown[0]!r}; {nearest(unknown[0], decoded)}")
        return chosen


@dataclass(frozen=True, kw_only=True)
class FolderData:
    """The opened folder."""

    root: Path
    class_names: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]  # texts per class
    files: Strings  # paths below `root`
    label_I: np.ndarray  # int32, index into class_names
    modality: str  # of the files
    notes: tuple[str, ...] = ()

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

    def labels_of(self, index_I: np.ndarray) -> frozenset[int]:
        """The classes that some of these samples have."""
        return frozenset(np.unique(self.label_I[index_I]).tolist())

    def texts(self) -> Iterator[str]:
        """The class texts."""
        return (text for texts in self.classes for text in texts)


def _walk(root: Path, class_name: str, suffixes: tuple[str, ...], left_out: Counter[str]) -> Iterator[str]:
    """Files of one class as paths below `root`, at any depth; of others the suffixes are counted."""
    for folder, below, files in os.walk(root / class_name):
        below[:] = seen(below, left_out)
        if linked := sum(os.path.islink(os.path.join(folder, name)) for name in below):
            left_out[LINKED] += linked  # they are not followed: they may lead in a circle
        inside = Path(folder).relative_to(root).as_posix()
        for file in seen(files, left_out):
            if (suffix := suffix_of(file)) in suffixes:
                yield f"{inside}/{file}"
            else:
                left_out[suffix] += 1


def _modality(files: list[str], root: Path, where: str) -> str:
    """What the files are, which must be one thing."""
    modality_of = listed_suffixes()
    modalities: set[str] = {modality_of[suffix_of(file)] for file in files}
    if len(modalities) > 1:
        nouns = " and ".join(f"{row.noun}s" for name, row in MODALITIES.items() if name in modalities)
        kinds = {
            name: listed(sorted({suffix for file in files if modality_of[suffix := suffix_of(file)] == name}))
            for name in modalities
        }
        choices = " or ".join(f"[{kinds[name]}]" for name in MODALITIES if name in kinds)
        rare = min(modalities, key=lambda name: sum(modality_of[suffix_of(file)] == name for file in files))
        example = next(file for file in files if modality_of[suffix_of(file)] == rare)
        raise UserError(f"{where}: {root} mixes {nouns}, such as {example}; choose with `extensions: {choices}`")
    return modalities.pop()
