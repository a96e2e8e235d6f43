"""Pascal VOC: an XML file per picture, as labelImg and the VOC challenges write them.

Shape suffixes: I pictures.
"""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from uniperceiver.data.formats.class_list import read_classes
from uniperceiver.data.formats.files import (
    Strings,
    class_texts,
    existing_folder,
    first_frames,
    listed_suffixes,
    seen,
    sorted_names,
    suffix_of,
)
from uniperceiver.data.formats.objects.pictures import MarkedPictures, refuse_other_sizes
from uniperceiver.data.formats.objects.things import ThingList
from uniperceiver.errors import UserError, nearest
from uniperceiver.strict import record

_DECLARATIONS = (b"<!doctype", b"<!entity")  # by which a small file can fill the memory
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_YES = ("1", "true", "yes")


@record
class VocSource:
    """A sample per XML file, with the boxes and names of the things in its picture.

    Corners count from 1 and belong to the box, as in the VOC challenges: xmin 1 is the left edge of the picture.
    What is marked as difficult is a crowd: it is neither learnt nor counted as missing.
    """

    path: str
    """The folder of the XML files, such as Annotations."""
    images: str
    """The folder of the pictures, such as JPEGImages; a.xml is about a.jpg."""
    classes: str | tuple[str, ...] | None = None
    """Names in label order, or a file that lists them; None: the names that occur, sorted."""
    rescale: bool = False
    """Take pictures that are smaller or larger copies of those that the boxes are for; boxes are scaled with them."""

    def open(self, base: Path, where: str) -> MarkedPictures:
        """Read the XML files."""
        folder, images = existing_folder(base, self.path, where), existing_folder(base, self.images, f"{where}: images")
        files = sorted(name for name in seen(os.listdir(folder), Counter()) if suffix_of(name) == "xml")
        if not files:
            raise UserError(f"{where}: {folder}: no .xml file in this folder; give the folder that holds them")
        chosen = None if self.classes is None else read_classes(base, self.classes, where)
        pictures_of = _pictures(images)
        things, sizes, names, missing = ThingList(noun="object"), [], [], 0
        texts: dict[str, int] = {name: label for label, name in enumerate(chosen.names)} if chosen else {}
        for index, file in enumerate(files):
            read = _read(folder / file, where)
            names.append(_picture(file, read.picture, pictures_of, f"{where}: {folder / file}"))
            missing += names[-1] not in pictures_of.get(Path(names[-1]).stem, ())
            sizes.append(read.size)
            if read.fault is not None:
                things.refuse(index, file, read.fault)
            for entry in read.things:
                _add(things, index, entry, file, texts, chosen is not None, where)
        if missing == len(files):
            raise UserError(f"{where}: images: {images} holds no picture of {folder}, not even {names[0]}")
        _refuse_shared(files, names, folder, where)
        if chosen is None:
            texts = _sorted_labels(things, texts)
        packed, notes = things.things(sizes, str(folder), where, form="xyxy", rescale=self.rescale)
        without = sum(map(len, pictures_of.values())) - (len(files) - missing)
        lines = [f"{images}: {without:,} pictures have no XML file and are left out"] if without else []
        pictures = MarkedPictures(
            folders=(images,),
            folder_I=np.zeros(len(names), dtype=np.int16),
            files=Strings.of(names),
            things=packed,
            class_names=tuple(texts),
            classes=chosen.texts if chosen else class_texts(texts),
            notes=(*lines, *notes, *first_frames(images, names)),
        )
        if not self.rescale:
            refuse_other_sizes(pictures, str(folder), where)
        return pictures


class VocFile(NamedTuple):
    """What an XML file says."""

    picture: str  # the name that it gives
    size: tuple[int, int]  # height and width; 0: not said
    things: list[ElementTree.Element]
    fault: str | None = None


def _pictures(folder: Path) -> dict[str, list[str]]:
    """The pictures of a folder by their names without suffix."""
    kinds = listed_suffixes()
    names: dict[str, list[str]] = {}
    for name in sorted(seen(os.listdir(folder), Counter())):
        if kinds.get(suffix_of(name)) == "image":
            names.setdefault(Path(name).stem, []).append(name)
    return names


def _picture(file: str, named: str, pictures_of: Mapping[str, Sequence[str]], where: str) -> str:
    """The picture that an XML file is about: that of its own name, or else that which it names.

    Raises:
        UserError: it may be one of several.
    """
    alike = pictures_of.get(Path(file).stem) or pictures_of.get(Path(named).stem) or [f"{Path(file).stem}.jpg"]
    if len(alike) > 1 and Path(named).name not in alike:
        raise UserError(f"{where}: may be about {' or '.join(alike)}; move all but one, or name it in <filename>")
    return Path(named).name if len(alike) > 1 else alike[0]


def _refuse_shared(files: Sequence[str], names: Sequence[str], folder: Path, where: str) -> None:
    """Refuse XML files that are about one picture, as where pictures of several folders have the same names.

    Raises:
        UserError: there are some.
    """
    about: dict[str, str] = {}
    for file, name in zip(files, names, strict=True):
        if (before := about.setdefault(name, file)) != file:
            raise UserError(
                f"{where}: {folder}: {before} and {file} are both about {name}; remove one, or where pictures of "
                "several folders have the same names, give each folder with its XML files a source of its own"
            )


def _read(path: Path, where: str) -> VocFile:
    """The content of an XML file; one that is damaged costs its picture.

    Raises:
        UserError: it declares a document type or entities.
    """
    try:
        data = path.read_bytes()
        if any(mark in data.lower() for mark in _DECLARATIONS):
            raise UserError(
                f"{where}: {path}: declares a document type or entities, which no such file needs; remove it"
            )
        root = ElementTree.fromstring(data)
    except OSError as error:
        return VocFile("", (0, 0), [], f"cannot be read ({error.strerror})")
    except (ElementTree.ParseError, ValueError) as error:
        return VocFile("", (0, 0), [], f"not valid XML ({error})")
    sides = [_number(root, f"size/{key}") for key in ("height", "width")]
    whole = all(side is not None and side >= 1 for side in sides)
    size = (int(sides[0] or 0), int(sides[1] or 0)) if whole else (0, 0)
    return VocFile((root.findtext("filename") or "").strip(), size, root.findall("object"))


def _number(element: ElementTree.Element, key: str) -> float | None:
    try:
        value = float((element.findtext(key) or "").strip())
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _add(
    things: ThingList,
    picture: int,
    entry: ElementTree.Element,
    file: str,
    texts: dict[str, int],
    closed: bool,
    where: str,
) -> None:
    """Take in an object, or note why its picture cannot be used.

    Args:
        texts: label by name, to which a new name is added.
        closed: there are no others than these.

    Raises:
        UserError: it is of a class that is none.
    """
    name = (entry.findtext("name") or "").strip()
    corners = [_number(entry, f"bndbox/{key}") for key in _CORNERS]
    numbers = [value for value in corners if value is not None]
    if not name or len(numbers) < len(corners):
        what = "without a name" if not name else f"of class {name!r} without {', '.join(_CORNERS)} as numbers"
        things.refuse(picture, file, f"an object {what}")
        return
    if name not in texts and closed:
        raise UserError(f"{where}: {file}: class {name!r} is not in `classes`; {nearest(name, texts)}")
    x0, y0, x1, y1 = numbers
    if x1 < x0 or y1 < y0:
        x0, y0, x1, y1 = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
        things.left_out["boxes have their corners swapped, and are turned"].append(file)
    crowd = (entry.findtext("difficult") or "").strip().lower() in _YES
    things.add(picture, (x0 - 1, y0 - 1, x1, y1), texts.setdefault(name, len(texts)), file, crowd=crowd)


def _sorted_labels(things: ThingList, texts: Mapping[str, int]) -> dict[str, int]:
    """The names in their order as classes, whose labels the things get."""
    names = sorted_names(texts)
    things.relabel({texts[name]: label for label, name in enumerate(names)})
    return {name: label for label, name in enumerate(names)}
