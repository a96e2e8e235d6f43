"""COCO instances: a JSON file with `images`, `annotations` and `categories`, and folders of images.

Shape suffixes: I images.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniperceiver.data.formats.class_list import read_classes
from uniperceiver.data.formats.files import (
    Strings,
    class_texts,
    existing_file,
    first_frames,
    read_json,
)
from uniperceiver.data.formats.image_folders import image_folders
from uniperceiver.data.formats.objects.outlines import outline_of
from uniperceiver.data.formats.objects.pictures import MarkedPictures, refuse_other_sizes
from uniperceiver.data.formats.objects.things import ThingList
from uniperceiver.errors import UserError, listed
from uniperceiver.strict import record

_LISTS = "{images: [...], annotations: [...], categories: [...]}"
_NO_CROWD = (None, False, 0, "", "0", "false", "False")


@record
class CocoInstancesSource:
    """A sample per image, in the order of the file, with the boxes, classes and outlines of the things in it.

    Ids are names: any numbers, with gaps, or texts. The classes are the categories, sorted by id; an image without
    annotations is a picture of nothing, which is learnt from as well.
    """

    path: str
    """The JSON file, such as instances_train.json."""
    images: str | tuple[str, ...]
    """The folder that `file_name` counts from, or several; each image is in one of them."""
    classes: str | tuple[str, ...] | None = None
    """Names of the categories that are classes, in label order, or a file that lists them; things of others are left
    out. None: all."""
    rescale: bool = False
    """Take pictures that are smaller or larger copies of those that the boxes are for; boxes are scaled with them."""

    def open(self, base: Path, where: str) -> MarkedPictures:
        """Read the JSON file and gather each image's things."""
        path = existing_file(base, self.path, where)
        folders = image_folders(base, self.images, where)
        document = read_json(path, where)
        images = _images(document, path, where)
        categories = _categories(document, path, where)
        classes = None if self.classes is None else read_classes(base, self.classes, where)
        names = tuple(categories.values()) if classes is None else classes.names
        label_of = _labels(categories, names, path, where)
        things = _things(document, images, label_of, path, where)
        files = [image.file for image in images.values()]
        folder_I = folders.indices_of(files, path)
        sizes = [image.size or (0, 0) for image in images.values()]
        packed, notes = things.things(sizes, str(path), where, rescale=self.rescale)
        pictures = MarkedPictures(
            folders=folders.folders,
            folder_I=folder_I,
            files=Strings.of(files),
            things=packed,
            class_names=names,
            classes=class_texts(names) if classes is None else classes.texts,
            notes=(*notes, *first_frames(folders.text, files)),
            category_ids={categories[category]: category for category in label_of},
            image_ids=Strings.of(json.dumps(image) for image in images),
        )
        if not self.rescale:
            refuse_other_sizes(pictures, str(path), where)
        return pictures


@dataclass(frozen=True, kw_only=True)
class CocoImage:
    """An entry of `images`."""

    index: int
    file: str
    size: tuple[int, int] | None  # height and width; None: not said


def _images(document: Any, path: Path, where: str) -> dict[Any, CocoImage]:
    """The images by id."""
    images: dict[Any, CocoImage] = {}
    for number, entry in enumerate(_entries(document, "images", path, where)):
        for key in ("id", "file_name"):
            if not isinstance(entry, dict) or not isinstance(entry.get(key), str | int | float):
                raise UserError(f"{where}: {path}: images[{number}] has no {key!r}")
        if entry["id"] in images:
            raise UserError(f"{where}: {path}: images[{number}]: id {entry['id']!r} stands there twice")
        sides = entry.get("height"), entry.get("width")
        whole = all(isinstance(side, int | float) and side >= 1 and math.isfinite(side) for side in sides)
        size = (int(sides[0]), int(sides[1])) if whole else None
        images[entry["id"]] = CocoImage(index=number, file=str(entry["file_name"]), size=size)
    if not images:
        raise UserError(f"{where}: {path}: there is no image")
    return images


def _categories(document: Any, path: Path, where: str) -> dict[Any, str]:
    """The names of the categories, sorted by id."""
    names: dict[Any, str] = {}
    for number, entry in enumerate(_entries(document, "categories", path, where)):
        for key in ("id", "name"):
            if not isinstance(entry, dict) or not isinstance(entry.get(key), str | int | float):
                raise UserError(f"{where}: {path}: categories[{number}] has no {key!r}")
        if entry["id"] in names:
            raise UserError(f"{where}: {path}: categories[{number}]: id {entry['id']!r} stands there twice")
        if (name := str(entry["name"]).strip()) in names.values():
            raise UserError(f"{where}: {path}: categories[{number}]: name {name!r} stands there twice; rename one")
        names[entry["id"]] = name
    if not names:
        raise UserError(f"{where}: {path}: there is no category, so nothing has a name")
    return dict(sorted(names.items(), key=lambda pair: (isinstance(pair[0], str), pair[0])))


def _labels(categories: Mapping[Any, str], names: Sequence[str], path: Path, where: str) -> dict[Any, int]:
    """The label of each category that is a class, by its id."""
    if unknown := [name for name in names if name not in categories.values()]:
        raise UserError(
            f"{where}: key 'classes' names {unknown[0]!r}, which is no category of {path.name}: "
            f"{listed(map(repr, categories.values()))}"
        )
    label_of = {name: label for label, name in enumerate(names)}
    return {category: label_of[name] for category, name in categories.items() if name in label_of}


def _things(
    document: Any, images: Mapping[Any, CocoImage], label_of: Mapping[Any, int], path: Path, where: str
) -> ThingList:
    """The annotations of all images.

    Raises:
        UserError: an annotation is of no image or category of the file.
    """
    things, names = ThingList(noun="annotation"), set[Any]()
    entries = _entries(document, "annotations", path, where)
    _refuse_strangers(entries, "image_id", images, path, where)
    _refuse_strangers(entries, "category_id", {entry["id"] for entry in document["categories"]}, path, where)
    for number, entry in enumerate(entries):
        name = entry.get("id", f"[{number}]")
        if name in names:
            things.left_out["annotations have an id that stands there before"].append(name)
        names.add(name)
        image, label = images[entry["image_id"]], label_of.get(entry["category_id"])
        if label is None:
            things.left_out["things are of other categories and left out"].append(name)
            continue
        _add(things, entry, image, label, name)
    if entries and not things.names and not things.refused:
        raise UserError(f"{where}: {path}: no annotation is of a class in key 'classes'")
    return things


def _add(things: ThingList, entry: Mapping[str, Any], image: CocoImage, label: int, name: object) -> None:
    """Take in an annotation, or note why its image cannot be used."""
    box, area, crowd = entry.get("bbox"), entry.get("area"), entry.get("iscrowd")
    numbers = isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))
    if not numbers:
        things.refuse(image.index, name, f"its bbox is {json.dumps(box)[:60]}, not four numbers")
        return
    assert box is not None
    outline = outline_of(entry.get("segmentation"), image.size)
    if outline.fault is not None:
        things.refuse(image.index, name, outline.fault)
        return
    if outline.scaled:
        things.left_out["RLEs are of a larger or smaller copy of their picture and are scaled"].append(name)
    left, top, width, height = map(float, box)
    things.add(
        image.index,
        (left, top, left + width, top + height),
        label,
        name,
        crowd=crowd not in _NO_CROWD,
        area=float(area) if area is not None and _is_number(area) else math.nan,
        outline=outline.data,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _refuse_strangers(entries: Sequence[Any], key: str, listed_ids: Collection[Any], path: Path, where: str) -> None:
    """Refuse annotations of what the file does not list.

    Raises:
        UserError: there are some; the first is named.
    """
    strangers = [
        number
        for number, entry in enumerate(entries)
        if not isinstance(entry, dict)
        or not isinstance(entry.get(key), str | int | float)
        or entry[key] not in listed_ids
    ]
    if not strangers:
        return
    first, noun = entries[strangers[0]], key.removesuffix("_id")
    value = first.get(key) if isinstance(first, dict) else None
    if value is None:
        hint = "; is this a captions file? Give the instances file" if key == "category_id" else ""
        raise UserError(f"{where}: {path}: annotations[{strangers[0]}] has no {key!r}{hint}")
    alike = next((other for other in listed_ids if str(other) == str(value)), None)
    reason = "are these parts of two files?" if alike is None else f"there is {alike!r}; write both alike"
    raise UserError(
        f"{where}: {path}: {len(strangers):,} of {len(entries):,} annotations are of no {noun} of the file, such as "
        f"annotations[{strangers[0]}] of {key} {value!r}: {reason}"
    )


def _entries(document: Any, key: str, path: Path, where: str) -> list[Any]:
    entries = document.get(key) if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise UserError(f"{where}: {path}: no list {key!r}; expected COCO instances: {_LISTS}")
    return entries
