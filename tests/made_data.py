"""One made-up data set, written in every format: pictures, clips or sounds with classes and captions, a few of each."""

import csv
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from tests.sounds import tone, wave_bytes

CLASSES = ("hot_air_balloon", "owl", "zebra")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One picture, clip or sound."""

    file: str  # CLASS/NUMBER.png, .mp4 or .wav
    data: bytes
    class_name: str
    captions: tuple[str, ...]


def picture(number: int) -> bytes:
    """A PNG of 24 x 16 pixels that no other number has."""
    pixels_HWC = np.random.default_rng(number).integers(0, 256, size=(16, 24, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels_HWC).save(file, "PNG")
    return file.getvalue()


def clip(number: int) -> bytes:
    """An MP4 of three frames with 32 x 32 pixels, as bright as the number says."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(8))
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for frame in range(3):
            pixels_HWC = np.full((32, 32, 3), 10 * number + frame, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels_HWC, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def sound(number: int) -> bytes:
    """A WAV file of a tone that no other number has, 0.1 seconds at 16 kHz."""
    return wave_bytes(tone(0.1, hertz=300.0 + 100 * number))


def items(count: int = 6, clips: bool = False, sounds: bool = False) -> list[Item]:
    """Items in the order in which a folder lists them: by class, then by number. Every third has two captions."""
    suffix, medium = ("mp4", clip) if clips else ("wav", sound) if sounds else ("png", picture)
    made = []
    for number in range(count):
        name = CLASSES[number * len(CLASSES) // count]
        captions = (f'the {name}, "number" {number}', f"größer\nals {number - 1}")[: 2 if number % 3 == 0 else 1]
        made.append(
            Item(
                file=f"{name}/{number:03d}.{suffix}",
                data=medium(number),
                class_name=name,
                captions=captions,
            )
        )
    return made


def write_files(folder: Path, made: Sequence[Item]) -> None:
    """The files themselves, a folder per class."""
    for item in made:
        (folder / item.file).parent.mkdir(parents=True, exist_ok=True)
        (folder / item.file).write_bytes(item.data)


def write_list(path: Path, made: Sequence[Item]) -> None:
    """Paths and classes."""
    path.write_text("".join(f"{item.file}\t{item.class_name}\n" for item in made), encoding="utf-8")


def write_csv(path: Path, made: Sequence[Item], delimiter: str = ",", column: str = "image") -> None:
    """A row per caption, as Flickr8k has them; captions hold delimiters, quotation marks and line breaks."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow([column, "caption", "class"])
        writer.writerows([item.file, caption, item.class_name] for item in made for caption in item.captions)


def write_tsv(path: Path, made: Sequence[Item], column: str = "image") -> None:
    """The same with tabs, where a caption cannot hold a line break."""
    rows = [[item.file, caption.replace("\n", " "), item.class_name] for item in made for caption in item.captions]
    path.write_text("".join("\t".join(row) + "\n" for row in [[column, "caption", "class"], *rows]), encoding="utf-8")


def records(made: Sequence[Item], medium: Callable[[Item], Any], column: str = "image") -> list[dict[str, Any]]:
    """A row per item, with a list of captions."""
    return [
        {column: medium(item), "captions": list(item.captions), "label": item.class_name, "note": None} for item in made
    ]


def write_jsonl(path: Path, made: Sequence[Item], column: str = "image") -> None:
    """A line per item."""
    lines = (json.dumps(row, ensure_ascii=False) for row in records(made, lambda item: item.file, column))
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def write_parquet(
    path: Path, made: Sequence[Item], medium: Callable[[Item], Any], rows: int = 2, column: str = "image"
) -> None:
    """A Parquet file whose row groups have so many rows."""
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records(made, medium, column)), path, row_group_size=rows)


def hugging_face(made: Sequence[Item], column: str = "image") -> Any:
    """A `datasets.Dataset` with a picture or a sound, a ClassLabel and captions."""
    import datasets

    # A column of sounds is written as what it holds, since to encode them needs a package that is not here.
    held = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    features = {
        column: datasets.Image() if column == "image" else held,
        "captions": datasets.List(datasets.Value("string")),
        "label": datasets.ClassLabel(names=list(CLASSES)),
        "note": datasets.Value("string"),
    }
    rows = records(made, lambda item: {"bytes": item.data, "path": item.file}, column)
    made_set = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    return made_set if column == "image" else made_set.cast_column(column, datasets.Audio())


def write_coco(path: Path, made: Sequence[Item]) -> None:
    """COCO captions with gaps between the ids."""
    images = [{"id": 7 * number + 1, "file_name": item.file} for number, item in enumerate(made)]
    annotations = [
        {"id": 100 * number + k, "image_id": 7 * number + 1, "caption": caption}
        for number, item in enumerate(made)
        for k, caption in enumerate(item.captions)
    ]
    path.write_text(json.dumps({"images": images, "annotations": annotations}), encoding="utf-8")


def write_shards(folder: Path, made: Sequence[Item], pattern: str = "shard-{:04d}.tar", each: int = 2) -> None:
    """Tar shards of so many items."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(made), each)):
        with tarfile.open(folder / pattern.format(number), "w") as shard:
            for item in made[start : start + each]:
                for name, data in _members(item).items():
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    shard.addfile(info, io.BytesIO(data))


def _members(item: Item) -> Mapping[str, bytes]:
    stem, _, suffix = Path(item.file).name.partition(".")
    facts = json.dumps({"captions": item.captions, "caption": item.captions[0]})
    return {
        f"{stem}.{suffix}": item.data,
        f"{stem}.json": facts.encode(),
        f"{stem}.cls": str(CLASSES.index(item.class_name)).encode(),
    }


def every_format(root: Path, key: str = "image") -> Iterator[tuple[str, dict[str, Any]]]:
    """The set in every format, with the recipe of a source that has pictures (or sounds), classes (where the format
    knows them) and captions (likewise).

    Args:
        key: image or audio: what the tables call their column, and the recipe its key.
    """
    made = items(sounds=key == "audio")
    write_files(root / "files", made)
    table = {key: key, "label": "label", "captions": "captions"}
    rows = {key: key, "label": "class", "captions": "caption", "files": "files"}
    yield "folder", {"format": "folder", "path": "files"}
    write_list(root / "list.txt", made)
    yield "files", {"format": "files", "path": "list.txt", "files": "files"}
    write_csv(root / "t.csv", made, ";", key)
    yield "csv", {"format": "csv", "path": "t.csv", "delimiter": ";", **rows}
    write_tsv(root / "t.tsv", made, key)
    yield "tsv", {"format": "tsv", "path": "t.tsv", **rows}
    write_jsonl(root / "t.jsonl", made, key)
    yield "jsonl", {"format": "jsonl", "path": "t.jsonl", **table, "files": "files"}
    write_parquet(root / "paths.parquet", made, lambda item: item.file, column=key)
    yield "parquet of paths", {"format": "parquet", "path": "paths.parquet", **table, "files": "files"}
    write_parquet(root / "bytes.parquet", made, lambda item: item.data, column=key)
    yield "parquet of bytes", {"format": "parquet", "path": "bytes.parquet", **table}
    write_parquet(root / "both.parquet", made, lambda item: {"bytes": item.data, "path": item.file}, column=key)
    yield "parquet of both", {"format": "parquet", "path": "both.parquet", **table}
    hugging_face(made, key).save_to_disk(root / "saved")
    yield "huggingface", {"format": "huggingface", "path": "saved", **table}
    (root / "hub").mkdir()
    hugging_face(made, key).to_parquet(root / "hub" / "train-0.parquet")
    yield "huggingface of parquet", {"format": "huggingface", "path": "hub", **table}
    write_coco(root / "captions.json", made)
    yield "coco_captions", {"format": "coco_captions", "path": "captions.json", "images": "files"}
    write_shards(root / "shards", made)
    shards = {"format": "webdataset", "path": "shards/shard-{0000..0002}.tar", "text": "json.captions"}
    yield "webdataset", {**shards, "classes": list(CLASSES)}
