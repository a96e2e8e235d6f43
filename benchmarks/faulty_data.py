"""Small data sets of every kind, in which some samples are broken: what `uniperceiver data check` has to find.

Each writer makes a set of `count` samples, spoils those that `faults` names by their index, and gives their names.
"""

import io
import json
import os
import struct
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from uniperceiver.streams import numpy_stream

CLASSES = ("cat", "dog")
SHARD = 100  # samples

Names = dict[int, str]  # of the samples that are broken, by index
Faults = Mapping[int, str]  # kind by index


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A data set with its faults."""

    write: Callable[[Path, int, Faults], Names]
    task: Mapping[str, Any]  # without train and val
    source: Mapping[str, Any]  # from the folder that holds it
    faults: Mapping[str, str]  # a part of the reason, by kind of fault


@cache
def picture(number: int) -> bytes:
    """One of some JPEGs of 48 x 32 pixels."""
    x_HWC = numpy_stream(number, "picture").integers(0, 256, (4, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(x_HWC).resize((48, 32)).save(file, "JPEG", quality=90)
    return file.getvalue()


@cache
def clip(number: int, frames: int = 5) -> bytes:
    """One of some clips of 48 x 32 pixels; without frames it is a container and nothing else."""
    file = io.BytesIO()
    with av.open(file, "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(8))
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        container.start_encoding()
        for _ in range(frames):
            x_HWC = np.asarray(Image.open(io.BytesIO(picture(number))))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(x_HWC, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def bomb(width: int = 30000, height: int = 30000) -> bytes:
    """A PNG of a few hundred bytes that announces 900 megapixels, and has none."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def spoiled(data: bytes, fault: str) -> bytes:
    """The bytes of a file with that fault."""
    match fault:
        case "truncated":
            return data[: len(data) // 2]
        case "empty":
            return b""
        case "html":
            return b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
        case "bomb":
            return bomb()
        case "frameless":
            return clip(0, frames=0)
    return data


def write_files(make: Callable[[int], bytes], suffix: str, folder: Path, count: int, faults: Faults) -> Names:
    """CLASS/NUMBER.SUFFIX"""
    names = {}
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    for index in range(count):
        file, fault = f"{CLASSES[index % 2]}/{index:06d}.{suffix}", faults.get(index, "")
        if fault == "unreadable":
            os.symlink(folder / file, folder / file)  # a link to itself
        else:
            (folder / file).write_bytes(spoiled(make(index % 7), fault))
        if fault:
            names[index] = file
    return names


def write_captions(folder: Path, count: int, faults: Faults) -> Names:
    """captions.json, pictures/NUMBER.jpg; every second id is left out."""
    (folder / "pictures").mkdir(parents=True)
    images, annotations, names = [], [], {}
    for index in range(count):
        file, fault = f"{index:06d}.jpg", faults.get(index, "")
        images.append({"id": 2 * index + 1, "file_name": file})
        text = "half a \ud83d pair" if fault == "surrogate" else f"picture {index % 7} as it is seen by {index % 11}"
        annotations.append({"image_id": 2 * index + 1, "caption": text})
        if fault != "missing":
            (folder / "pictures" / file).write_bytes(spoiled(picture(index % 7), fault))
        if fault:
            names[index] = file
    document = {"images": images, "annotations": annotations}
    (folder / "captions.json").write_text(json.dumps(document), encoding="utf-8")
    return names


def write_shards(folder: Path, count: int, faults: Faults) -> Names:
    """NUMBER.tar with KEY.jpg and KEY.json."""
    folder.mkdir(parents=True)
    names = {}
    for shard in range(-(-count // SHARD)):
        path = folder / f"{shard:04d}.tar"
        headers = []
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for index in range(shard * SHARD, min((shard + 1) * SHARD, count)):
                fault = faults.get(index, "")
                if fault == "header":
                    headers.append(tar.offset)
                for member, data in _members(f"{index:06d}", index, fault):
                    _add(tar, member, data, fault == "link" and member.endswith("jpg"))
                if fault:
                    names[index] = f"{path.name}/{index:06d}" if fault != "outside" else f"{path.name}/../{index:06d}"
        _damage(path, headers)
    return names


def _members(key: str, index: int, fault: str) -> list[tuple[str, bytes]]:
    key = f"../{key}" if fault == "outside" else key
    label: object = float("nan") if fault == "nan" else CLASSES[index % 2]
    text = json.dumps({"caption": " " if fault == "blank" else f"picture {index % 7}", "label": label}).encode()
    if fault == "utf8":
        text = text.replace(b"picture", b"pict\xffre")
    members = [(f"{key}.jpg", spoiled(picture(index % 7), fault)), (f"{key}.json", text)]
    return [*members, members[0]] if fault == "twice" else members


def _add(tar: tarfile.TarFile, name: str, data: bytes, link: bool) -> None:
    info = tarfile.TarInfo(name)
    if link:
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
        data = b""
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _damage(path: Path, headers: list[int]) -> None:
    data = bytearray(path.read_bytes())
    for offset in headers:
        data[offset + 120 : offset + 160] = b"\xee" * 40  # size, time and checksum
    path.write_bytes(data)


def write_lines(folder: Path, count: int, faults: Faults) -> Names:
    """lines.txt"""
    folder.mkdir(parents=True)
    lines = [
        (b"not \xff UTF-8" if index in faults else f"line {index} tells of nothing in particular".encode())
        for index in range(count)
    ]
    (folder / "lines.txt").write_bytes(b"\n".join(lines) + b"\n")
    return {index: f"lines.txt:{index + 1}" for index in faults}


def write_rows(folder: Path, count: int, faults: Faults) -> Names:
    """rows.jsonl"""
    folder.mkdir(parents=True)
    lines = []
    for index in range(count):
        fault = faults.get(index, "")
        text = {"blank": "  ", "nan": float("nan")}.get(fault, f"row {index} is as good as any")
        line = json.dumps({"text": text, "class": CLASSES[index % 2]}).encode()
        line = line.replace(b"any", b"a\xffy") if fault == "utf8" else line
        lines.append(line[:-9] if fault == "cut" else line)
    (folder / "rows.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return {index: f"rows.jsonl:{index + 1}" for index in faults}


_FILE = {"unreadable": "cannot be read", "empty": "the file is empty"}
_PICTURE = {"truncated": "truncated", "html": "web page", "bomb": "more than 40 megapixels"}
KINDS: dict[str, Kind] = {
    "pictures": Kind(
        write=partial(write_files, picture, "jpg"),
        task={"kind": "image_classification"},
        source={"format": "folder", "path": "pictures"},
        faults=_FILE | _PICTURE,
    ),
    "captions": Kind(
        write=write_captions,
        task={"kind": "image_captioning"},
        source={"format": "coco_captions", "path": "captions/captions.json", "images": "captions/pictures"},
        faults={"missing": "No such file", "surrogate": "not valid UTF-8", **_PICTURE},
    ),
    "shards": Kind(
        write=write_shards,
        task={"kind": "image_classification"},
        source={
            **{"format": "webdataset", "path": "shards", "classes": list(CLASSES)},
            **{"label": "json.label", "text": "json.caption"},
        },
        faults={
            **{"header": "header of a member is damaged", "twice": "two members", "blank": "empty text"},
            **{"utf8": "not valid", "nan": "is NaN", "link": "is a link", "outside": "points out of the shard"},
            **{"empty": "the file is empty", **_PICTURE},
        },
    ),
    "lines": Kind(
        write=write_lines,
        task={"kind": "masked_language_modelling"},
        source={"format": "text", "path": "lines/lines.txt"},
        faults={"utf8": "not valid UTF-8"},
    ),
    "rows": Kind(
        write=write_rows,
        task={"kind": "text_classification"},
        source={"format": "jsonl", "path": "rows/rows.jsonl", "text": "text", "label": "class"},
        faults={"blank": "empty text", "nan": "is NaN", "utf8": "not valid UTF-8", "cut": "not valid JSON"},
    ),
    "clips": Kind(
        write=partial(write_files, clip, "avi"),
        task={"kind": "video_classification"},
        source={"format": "folder", "path": "clips"},
        faults={**_FILE, "truncated": "clip", "html": "not a clip", "frameless": "no frames"},
    ),
}
