"""YOLO: a data.yaml, and a text file beside each picture with a line per thing, in shares of the picture's sides.

Shape suffixes: I pictures.
"""

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uniperceiver.data.formats.class_list import ClassList, read_classes
from uniperceiver.data.formats.files import (
    Strings,
    class_texts,
    existing,
    existing_file,
    first_frames,
    listed_suffixes,
    read_lines,
    seen,
    suffix_of,
)
from uniperceiver.data.formats.objects.outlines import NO_OUTLINE, polygons
from uniperceiver.data.formats.objects.pictures import MarkedPictures
from uniperceiver.data.formats.objects.things import OTHER_CLASSES, ThingList
from uniperceiver.errors import UserError, listed
from uniperceiver.strict import read_yaml, record

_MOST_SHARE = 1.01  # above it a coordinate is no share that was rounded
_BOX = 5  # numbers of a line with a box; a polygon has 7 or more, an odd number


@record
class YoloSource:
    """A sample per picture, with the things that its text file names: `class cx cy w h`, or `class x1 y1 x2 y2 ...`.

    The text file of images/a/1.jpg is labels/a/1.txt. One that is empty or missing says that there is nothing in the
    picture, which is learnt from as well.
    """

    path: str
    """The data.yaml; or a folder with the folders images and labels, with key `classes`."""
    split: str = "train"
    """Which split of the data.yaml: train, val or test."""
    classes: str | tuple[str, ...] | None = None
    """Names in label order, or a file that lists them; None: those of the data.yaml. Where they are names of the
    data.yaml, things of others are left out; else they are other names for its classes, in its order."""

    def open(self, base: Path, where: str) -> MarkedPictures:
        """Find the pictures and read their text files."""
        path = existing(base, self.path, where)
        if path.is_dir():
            folders = [path / "images" if (path / "images").is_dir() else path]
            names, label_of = self._own_classes(base, where), None
            if names is None:
                raise UserError(f"{where}: key 'classes' is missing; give the names, or give data.yaml as path")
        else:
            folders, names, label_of = self._of_yaml(path, base, where)
        files = [file for folder in folders for file in _pictures(folder, where)]
        if not files:
            raise UserError(f"{where}: {listed(folders, 3)}: no picture in it; check the paths of {path.name}")
        labels = tuple(range(len(names.names))) if label_of is None else label_of
        things, notes = _read_all(files, labels, str(path), where)
        packed, more = things.things([(0, 0)] * len(files), str(path), where, form="cxcywh", shares=True)
        home = Path(os.path.commonpath([file.parent for file in files]))
        shown = [file.relative_to(home).as_posix() for file in files]
        return MarkedPictures(
            folders=(home,),
            folder_I=np.zeros(len(files), dtype=np.int16),
            files=Strings.of(shown),
            things=packed,
            class_names=names.names,
            classes=names.texts,
            notes=(*notes, *more, *first_frames(home, shown)),
        )

    def _own_classes(self, base: Path, where: str) -> ClassList | None:
        return None if self.classes is None else read_classes(base, self.classes, where)

    def _of_yaml(self, path: Path, base: Path, where: str) -> tuple[list[Path], ClassList, tuple[int | None, ...]]:
        """The folders or lists of the split, the classes, and the label of each class of the file (None: none)."""
        document = read_yaml(existing_file(base, self.path, where))
        if self.split not in document:
            splits = [key for key in ("train", "val", "test") if key in document]
            raise UserError(f"{where}: {path}: no split {self.split!r}; there are {listed(splits)}")
        value = document[self.split]
        entries = value if isinstance(value, list) else [value]
        root = path.parent / str(document.get("path") or "")
        if not root.is_dir():  # many are written for the folder in which they were made
            root = path.parent
        folders = [_where(root, path.parent, str(entry), f"{where}: {path}: {self.split}") for entry in entries]
        own = self._own_classes(base, where)
        if own is None:
            named = _names(document.get("names"), path, where)
            return folders, named, tuple(range(len(named.names)))
        of_file = document.get("names")
        return folders, own, _labels(own.names, _names(of_file, path, where).names if of_file else (), path, where)


def _where(root: Path, home: Path, entry: str, where: str) -> Path:
    """The folder or list that a split names; ../train/images is also looked for in the folder itself."""
    for start in (root, home):
        for name in (entry, entry.removeprefix("../")):
            if (start / name).exists():
                return start / name
    return existing(root, entry, where)


def _names(value: Any, path: Path, where: str) -> ClassList:
    """The classes, as a list or by number."""
    if isinstance(value, dict) and sorted(value, key=str) and all(str(key).isdigit() for key in value):
        numbers = sorted(int(key) for key in value)
        if numbers != list(range(len(numbers))):
            raise UserError(f"{where}: {path}: the numbers of names must be 0 to {len(numbers) - 1}")
        value = [name for _, name in sorted(value.items(), key=lambda pair: int(pair[0]))]
    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: {path}: 'names' must be a list, or a mapping of numbers to names")
    names = tuple(str(name) for name in value)
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{where}: {path}: names: {twice!r} stands there twice; each class has one name")
    return ClassList(names=names, texts=class_texts(names))


def _labels(own: Sequence[str], of_file: Sequence[str], path: Path, where: str) -> tuple[int | None, ...]:
    """The label of each class of a data.yaml, by number, where the recipe has classes of its own.

    Raises:
        UserError: some of them are classes of the data.yaml and some are not.
    """
    strange = [name for name in own if name not in of_file]
    if len(strange) == len(own):  # other names for the same classes
        return tuple(range(len(own)))
    if strange:
        raise UserError(
            f"{where}: key 'classes' names {strange[0]!r}, which is no class of {path.name}: "
            f"{listed(map(repr, of_file))}; take names from there, or key 'labels' of the task for other texts"
        )
    return tuple(own.index(name) if name in own else None for name in of_file)


def _pictures(folder: Path, where: str) -> list[Path]:
    """The pictures of a folder at any depth, sorted, or those that a text file lists."""
    if folder.is_file():
        lines = [line for _, line in read_lines(folder, where)]
        return [folder.parent / line for line in lines]
    kinds, files = listed_suffixes(), []
    for inside, below, names in os.walk(folder):
        left_out = Counter[str]()
        below[:] = seen(below, left_out)
        files += [Path(inside) / name for name in seen(names, left_out) if kinds.get(suffix_of(name)) == "image"]
    return sorted(files)


def _label_file(picture: Path) -> Path:
    """Where the things of a picture stand: images/ becomes labels/, the last such folder of its path."""
    parts = list(picture.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


@dataclass
class _Counts:
    """What is said of all text files."""

    without: int = 0
    empty: int = 0
    unknown: list[tuple[str, int]] = field(default_factory=list)  # places of classes that have no name


def _read_all(
    files: Sequence[Path], label_of: Sequence[int | None], place: str, where: str
) -> tuple[ThingList, list[str]]:
    """The things of all pictures, and lines about text files.

    Args:
        label_of: the label of each class, by its number in the text files; None: its things are left out.

    Raises:
        UserError: a class without a name; no picture has a text file.
    """
    things, counts = ThingList(noun="line"), _Counts()
    label_files = [_label_file(file) for file in files]
    for picture, label_file in enumerate(label_files):
        if not label_file.is_file():
            counts.without += 1
            continue
        try:
            lines = read_lines(label_file, where)
        except UserError as error:
            things.refuse(picture, label_file.name, str(error).removeprefix(f"{where}: "))
            continue
        counts.empty += not lines
        for number, line in lines:
            _add(things, picture, line, f"{label_file.name}:{number}", label_of, counts)
    if counts.without == len(files):
        raise UserError(f"{where}: {place}: no picture has a text file, not even {label_files[0]}; is that the place?")
    if counts.unknown:
        name, label = counts.unknown[0]
        raise UserError(
            f"{where}: {place}: {len(counts.unknown):,} things are of classes without a name, such as {label} in "
            f"{name}; there are names for 0 to {len(label_of) - 1}"
        )
    expected, folders = set(label_files), {file.parent for file in label_files}
    shared = sum(count > 1 and file.is_file() for file, count in Counter(label_files).items())
    there = [file for folder in folders if folder.is_dir() for file in folder.glob("*.txt")]
    strangers = sum(file not in expected and file.name != "classes.txt" for file in there)
    notes = {
        f"of {len(files):,} pictures have no text file and are taken for pictures of nothing": counts.without,
        "text files are empty: pictures of nothing": counts.empty,
        "text files have no picture": strangers,
        "text files are those of several pictures each, as of a.jpg and a.png": shared,
    }
    return things, [f"{place}: {count:,} {what}" for what, count in notes.items() if count]


def _add(
    things: ThingList, picture: int, line: str, name: str, label_of: Sequence[int | None], counts: _Counts
) -> None:
    """Take in a line, or note why its picture cannot be used."""
    try:
        numbers = [float(word) for word in line.split()]
    except ValueError:
        things.refuse(picture, name, f"{line[:60]!r} holds what is no number")
        return
    if not all(map(math.isfinite, numbers)) or not numbers[0].is_integer() or numbers[0] < 0:
        things.refuse(picture, name, f"{line[:60]!r} holds a number that is not finite, or no class first")
        return
    if len(numbers) != _BOX and (len(numbers) < _BOX + 2 or len(numbers) % 2 == 0):
        things.refuse(
            picture, name, f"{len(numbers)} numbers; a box has 5, a polygon 7 or more (class x1 y1 x2 y2 ...)"
        )
        return
    if max(numbers[1:]) > _MOST_SHARE or min(numbers[1:]) < 1 - _MOST_SHARE:
        what = "above 1" if max(numbers[1:]) > _MOST_SHARE else "below 0"
        things.refuse(picture, name, f"{line[:60]!r}: a coordinate {what}; these are shares of the picture's sides")
        return
    if (number := int(numbers[0])) >= len(label_of):
        counts.unknown.append((name, number))
        return
    if (label := label_of[number]) is None:
        things.left_out[OTHER_CLASSES].append(name)
        return
    outline = NO_OUTLINE
    if len(numbers) == _BOX:
        cx, cy, w, h = numbers[1:]
        corners = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    else:
        x, y = numbers[1::2], numbers[2::2]
        corners = (min(x), min(y), max(x), max(y))
        outline = polygons([np.array(numbers[1:])])
    things.add(picture, corners, label, name, outline=outline)
