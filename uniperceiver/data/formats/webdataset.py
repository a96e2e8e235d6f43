"""WebDataset: tar shards whose members share a key: 000123.jpg, 000123.txt and 000123.cls are one sample."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniperceiver.data.formats.class_list import read_classes
from uniperceiver.data.formats.files import (
    decode_text,
    label_of,
    others_beside,
    short_names,
)
from uniperceiver.data.formats.patterns import list_files
from uniperceiver.data.formats.tables.box_columns import with_objects
from uniperceiver.data.formats.tables.values import filled
from uniperceiver.data.formats.tar_shards import Shards, index_shards
from uniperceiver.errors import BrokenSample, UserError, listed, nearest
from uniperceiver.records import Sample
from uniperceiver.strict import record

_IMAGE = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "avif", "heic", "heif")
_CLIP = ("mp4", "avi", "webm", "mov", "mkv", "m4v", "3gp")
_SOUND = ("flac", "wav", "ogg", "mp3", "opus", "m4a", "aac", "aiff", "aif", "oga", "mka", "w64")
_JSON, _TEXT, _LABEL = "json.", "txt", "cls"
_LOOKED_AT = 20  # samples, for whether they have what the recipe names
_SPLIT_AT_DOT = "a sample's name ends at the first dot: if {!r} is a sample of its own, put another character there"


@record
class WebdatasetSource:
    """Samples are read out of uncompressed tar files, which are never unpacked."""

    path: str | tuple[str, ...]
    """A tar file, a folder of them, a pattern such as shard-{0000..0003}.tar or shard-*.tar, or a list of these."""
    classes: str | tuple[str, ...] | None = None
    """Class names in label order, or a file that lists them; None: labels are not read."""
    image: str | tuple[str, ...] = _IMAGE
    """Member that holds an image; the first one that a sample has."""
    clip: str | tuple[str, ...] = _CLIP
    """Member that holds a clip."""
    audio: str | tuple[str, ...] = _SOUND
    """Member that holds a sound, perhaps beside the clip that it belongs to; []: sounds are not read. The sound track
    of a clip needs no member."""
    text: str | None = _TEXT
    """Member that holds the text: a caption of the image, clip or sound, or else the text to read. json.KEY: that value
    of the .json member; a list is several captions. None: texts are not read."""
    text_pair: str | None = None
    """Member (or json.KEY) that holds a second text to read, which follows the first after a space."""
    label: str = _LABEL
    """Member (or json.KEY) that holds the class: its index or name; a list is several right classes."""
    objects: str | None = None
    """Member (or json.KEY) that holds the things in the picture: {bbox: [...], category: [...]}, or a list of
    {bbox, category}, perhaps with iscrowd, area and segmentation as COCO has them; bbox is x, y, width, height in
    pixels of the upright picture."""
    id: str | None = None
    """Member (or json.KEY) that holds the sample's name for logs; None: shard and key."""

    def open(self, base: Path, where: str) -> "WebdatasetData":
        """Read the headers of all shards."""
        files = list_files(base, self.path, ".tar", where)
        shards = index_shards(files, short_names(files), where)
        classes = None if self.classes is None else read_classes(base, self.classes, where)
        names = None if classes is None else classes.names
        media = {
            "image": tuple(map(str.lower, _as_tuple(self.image))),
            "video": tuple(map(str.lower, _as_tuple(self.clip))),
            "audio": tuple(map(str.lower, _as_tuple(self.audio))),
        }
        data = WebdatasetData(
            shards=shards,
            others=others_beside(base, self.path, ".tar"),
            class_names=names,
            classes=None if classes is None else classes.texts,
            index_of={name: label for label, name in enumerate(names or ())},
            media=media,
            text=self.text,
            text_pair=self.text_pair,
            label=self.label,
            objects=self.objects,
            id=self.id,
            has_media=any(not shards.kinds.isdisjoint(kinds) for kinds in media.values()),
        )
        if not data.has_media and (self.text is None or _member(self.text) not in shards.kinds):
            raise UserError(f"{where}: {files[0]}: {_nothing_wanted(data)}")
        if self.objects is not None and names is None:
            raise UserError(f"{where}: key 'objects' needs key 'classes': the names of what is in the boxes")
        key, member_key = ("label", self.label) if self.objects is None else ("objects", self.objects)
        if names is not None and _member(member_key) not in shards.kinds:
            offer = nearest(member_key, shards.kinds)
            raise UserError(f"{where}: {files[0]}: no member .{_member(member_key)} for key {key!r}; {offer}")
        return data


@dataclass(frozen=True, kw_only=True)
class WebdatasetData:
    """The opened shards."""

    shards: Shards
    others: tuple[str, ...]  # lines about files beside the shards
    class_names: tuple[str, ...] | None
    classes: tuple[tuple[str, ...], ...] | None  # texts per class
    index_of: dict[str, int]  # label by class name
    media: Mapping[str, tuple[str, ...]]  # members that hold it by modality, best first
    text: str | None
    text_pair: str | None
    label: str
    objects: str | None
    id: str | None
    has_media: bool  # the set is one of images, clips or sounds, so that a sample without is broken

    @property
    def notes(self) -> tuple[str, ...]:
        """Members that are not taken."""
        first = self.shards.files[0]
        place = first if len(self.shards.files) == 1 else first.parent
        lines = list(self.others)
        if count := self.shards.of_system:
            lines.append(f"{place}: {count:,} members of macOS (._*, __MACOSX) are not taken")
        if self.has_media and (dotted := _with_dots(self)):
            files = "file is" if len(dotted) == 1 else "files are"
            lines.append(f"{place}: {len(dotted):,} {files} not taken: {_SPLIT_AT_DOT.format(dotted[0])}")
        return (*lines, *(f"{place}: {line}" for line in _naming_nothing(self)))

    def __len__(self) -> int:
        return len(self.shards)

    def read(self, index: int) -> Sample:
        """The members of one key."""
        name = self.shards.name(index)
        members = self.shards.members(index)
        values = _Values(self.shards, index)
        if self.id is not None:
            name = self._name(values)
        taken = {
            modality: kind
            for modality, kinds in self.media.items()
            if (kind := next((kind for kind in kinds if kind in members), None)) is not None
        }
        texts, faults = self._texts(values, name)
        if faults and not texts:
            raise faults[0]
        if not taken and (self.has_media or not texts):
            kinds = listed(f".{kind}" for kind in members) or "nothing"
            what = "image, clip or sound" if self.has_media else "text"
            raise BrokenSample(name, f"no {what} among its members: {kinds}")
        labels = self._labels(values, name) if self.class_names is not None else ()
        right: dict[str, Any] = {"label": labels[0]} if len(labels) == 1 else {"labels": labels}
        if not taken:
            text, second = "\n".join(texts), None
            if self.text_pair is not None:
                pair = filled(values.get(self.text_pair, name), f".{self.text_pair}", name)
                text, second = f"{text} {pair}", len(text) + 1
            return Sample(id=name, text=text, second=second, **right)
        sample = Sample(id=name, captions=texts, captions_left_out=len(faults), **right)
        for modality, kind in taken.items():
            sample = sample.with_value(modality, self.shards.read(index, kind))
        if self.objects is None or sample.image is None:
            return sample
        return with_objects(sample, values.get(self.objects, name), self.index_of, f".{self.objects}")

    def names(self) -> Iterator[tuple[str, ...]]:
        """What each sample is called, by its shard and key and, where it has one, by its own name; and its key."""
        for index, key in enumerate(self.shards.keys()):
            name = self.shards.name(index)
            names: tuple[str, ...] = (name, key)
            if self.id is not None:
                # A sample whose own name cannot be read has the other two.
                with suppress(BrokenSample):
                    names = (self._name(_Values(self.shards, index)), name, key)
            yield names

    def texts(self) -> Iterator[str]:
        """The class texts, then the texts of every sample that is not broken."""
        yield from (text for texts in self.classes or () for text in texts)
        for index in range(len(self)):
            try:
                yield from self._texts(_Values(self.shards, index), "")[0]
            except BrokenSample:
                continue

    def _name(self, values: "_Values") -> str:
        assert self.id is not None
        name = self.shards.name(values.index)
        if (value := values.get(self.id, name)) is None:
            raise BrokenSample(name, f"no name (.{self.id})")
        return _as_text(value, self.id, name)

    def _texts(self, values: "_Values", name: str) -> tuple[tuple[str, ...], list[BrokenSample]]:
        """The texts, and what is wrong with those of a list that are left out."""
        value = None if self.text is None else values.get(self.text, name)
        texts, faults = [], []
        for text in value if isinstance(value, list) else [] if value is None else [value]:
            try:
                texts.append(_as_text(text, str(self.text), name))
            except BrokenSample as error:
                faults.append(error)
        return tuple(texts), faults

    def _labels(self, values: "_Values", name: str) -> tuple[int, ...]:
        """The class of a sample, or the several that a list names."""
        value = values.get(self.label, name)
        if value is None and self.objects is not None:
            return ()
        if value is None:
            raise BrokenSample(name, f"no label (.{self.label})")
        labels = []
        for item in value if isinstance(value, list) else [value]:
            text = _as_text(item, self.label, name)
            if (label := label_of(text, self.index_of)) is None:
                raise BrokenSample(name, f"label {text!r} means none of the {len(self.index_of)} classes")
            labels.append(label)
        return tuple(labels)


@dataclass
class _Values:
    """What the members of a sample say beside its picture; the .json member is read once."""

    shards: Shards
    index: int
    _document: Any = None

    def get(self, key: str, name: str) -> Any:
        """A member's bytes, or a value of the .json member; None: there is none."""
        member = _member(key)
        if member not in self.shards.members(self.index):
            return None
        if (value := _json_key(key)) is None:
            return self.shards.read(self.index, member)
        return self.document(name).get(value)

    def document(self, name: str) -> dict[str, Any]:
        """What the .json member says, empty where it is no object; a BrokenSample where it is no JSON."""
        if self._document is None:
            try:
                self._document = json.loads(self.shards.read(self.index, "json"))
            except (ValueError, RecursionError) as error:
                raise BrokenSample(name, f"not valid JSON ({error})") from None
        return self._document if isinstance(self._document, dict) else {}


def _nothing_wanted(data: WebdatasetData) -> str:
    """Why a set has no sample that could be used, and what to do."""
    if not data.shards.kinds:
        return f"no member can be used: {next(iter(data.shards.refused.values()))}; pack plain files by relative names"
    kinds = listed(f".{kind}" for kind in sorted(data.shards.kinds))
    dotted = _with_dots(data)
    advice = f"; {_SPLIT_AT_DOT.format(dotted[0])}" if dotted else ""
    return f"no image, clip, sound or text, only {kinds}; set key image, clip, audio or text{advice}"


def _with_dots(data: WebdatasetData) -> list[str]:
    """Media with a dot in their name, by which they became members of a sample that has none of its own."""
    shards, media = data.shards, frozenset(kind for kinds in data.media.values() for kind in kinds)
    odd = {kind for kind in shards.kinds - media if kind.rpartition(".")[2] in media}
    files: list[str] = []
    for index, key in enumerate(shards.keys() if odd else ()):
        kinds = () if index in shards.refused else shards.members(index)
        if media.isdisjoint(kinds):
            files += [f"{key}.{kind}" for kind in kinds if kind in odd]
    return files


def _naming_nothing(data: WebdatasetData) -> Iterator[str]:
    """Lines about keys of the recipe that name a member which no sample has, or a value that the first ones lack."""
    keys = {"text": data.text, "text_pair": data.text_pair, "id": data.id, "label": data.label, "objects": data.objects}
    if data.text == _TEXT:  # not asked for
        del keys["text"]
    if data.class_names is None or (data.label == _LABEL and data.objects is not None):  # not read, or not asked for
        del keys["label"]
    first = [index for index in range(len(data)) if index not in data.shards.refused][:_LOOKED_AT]
    first = [index for index in first if "json" in data.shards.members(index)]
    for name, key in keys.items():
        if key is None:
            continue
        if (member := _member(key)) not in data.shards.kinds:
            yield f"no member .{member} for key {name!r}; {nearest(member, data.shards.kinds)}"
        elif (value := _json_key(key)) is not None:
            values: set[str] = set()
            for index in first:
                with suppress(BrokenSample):
                    values.update(_Values(data.shards, index).document(""))
            if values and value not in values:
                yield (
                    f"no value {value!r} in the .json member of the first {len(first):,} samples, for key {name!r}; "
                    f"{nearest(value, values)}"
                )


def _as_text(value: Any, key: str, name: str) -> str:
    return decode_text(value, name) if isinstance(value, bytes) else filled(value, f".{key}", name)


def _json_key(key: str) -> str | None:
    """The key of a value of the .json member; None: a key names a member itself."""
    return key[len(_JSON) :] if key.lower().startswith(_JSON) else None


def _member(key: str) -> str:
    """Members are kept in lower case."""
    return "json" if _json_key(key) is not None else key.lower()


def _as_tuple(keys: str | tuple[str, ...]) -> tuple[str, ...]:
    return (keys,) if isinstance(keys, str) else keys
