"""What benchmarks/data.py reads: pictures, clips and texts, made up and written in every format.

A format more is a function that writes the files and returns what a recipe says of them, and a line of the table.

Shape suffixes: T frames, H W pixels, C colours.
"""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from uniperceiver.streams import numpy_stream

Recipe = dict[str, Any]  # a source as a recipe names it
CLASSES = ("beach", "forest")
TEXT = "a two red blue dog man on under the old table street with many people and trees near water"


@dataclass(frozen=True, kw_only=True)
class Files:
    """The samples as plain files, which the bare loops read: path and class of each."""

    media: str  # "image", "clip" or "text"
    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    captions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format under test."""

    media: str
    kind: str  # of the task that reads it
    write: Callable[[Path, Files], Recipe]
    needs: str = ""  # a package that is not always installed

    @property
    def usable(self) -> bool:
        """Whether what it needs is installed."""
        return not self.needs or find_spec(self.needs) is not None


def make_files(folder: Path, media: str, count: int, size: tuple[int, int]) -> Files:
    """Samples that take about as long to decode as photographs and recorded clips do.

    Args:
        size: width and height in pixels.
    """
    rng = numpy_stream(0, "files", media)
    labels = tuple(index % len(CLASSES) for index in range(count))
    suffix = {"image": "jpg", "clip": "mp4", "text": "txt"}[media]
    paths = tuple(folder / CLASSES[label] / f"{index:05d}.{suffix}" for index, label in enumerate(labels))
    captions = tuple(" ".join(rng.choice(TEXT.split(), size=int(rng.integers(8, 20)))) + "." for _ in range(count))
    for path, caption in zip(paths, captions, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        if media == "text":
            path.write_text(caption, encoding="utf-8")
        elif media == "image":
            Image.fromarray(_texture(rng, *size)).save(path, quality=90)
        else:
            _write_clip(path, _texture(rng, 2 * size[0], 2 * size[1]), size, frames=24)
    return Files(media=media, paths=paths, labels=labels, captions=captions)


def _texture(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Blobs of all sizes, the smaller the fainter, as photographs have them: (H, W, 3) uint8."""
    total_HWC = np.zeros((height, width, 3))
    for octave in range(1, 10):
        cells = 2**octave
        noise = rng.integers(0, 256, (min(cells, height), min(cells, width), 3), dtype=np.uint8)
        blown_up = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        total_HWC += (np.asarray(blown_up) - 128.0) / octave**0.8
    return (total_HWC * 0.5 + 128.0).clip(0, 255).astype(np.uint8)


def _write_clip(path: Path, picture_HWC: np.ndarray, size: tuple[int, int], frames: int) -> None:
    """A camera that moves over a picture."""
    import av

    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            left, top = index * width // frames, index * height // frames
            frame_HWC = np.ascontiguousarray(picture_HWC[top : top + height, left : left + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")))
        container.mux(stream.encode(None))


def _folder(folder: Path, files: Files) -> Recipe:
    return {"format": "folder", "path": str(files.paths[0].parents[1])}


def _coco_captions(folder: Path, files: Files) -> Recipe:
    root = files.paths[0].parents[1]
    images = [{"id": index, "file_name": str(path.relative_to(root))} for index, path in enumerate(files.paths)]
    texts = [{"id": index, "image_id": index, "caption": text} for index, text in enumerate(files.captions)]
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": texts}), encoding="utf-8")
    return {"format": "coco_captions", "path": str(folder / "captions.json"), "images": str(root)}


def _webdataset(folder: Path, files: Files) -> Recipe:
    with tarfile.open(folder / "shard-0000.tar", "w") as tar:
        for index, (path, label, text) in enumerate(zip(files.paths, files.labels, files.captions, strict=True)):
            for suffix, data in ((path.suffix, path.read_bytes()), (".cls", b"%d" % label), (".txt", text.encode())):
                member = tarfile.TarInfo(f"{index:06d}{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return {"format": "webdataset", "path": str(folder), "classes": list(CLASSES)}


def _csv(folder: Path, files: Files) -> Recipe:
    lines = [f'"{path}",{CLASSES[label]}\n' for path, label in zip(files.paths, files.labels, strict=True)]
    (folder / "samples.csv").write_text("".join(["file,class\n", *lines]), encoding="utf-8")
    return {"format": "csv", "path": str(folder / "samples.csv"), files.media: "file", "label": "class"}


def _jsonl(folder: Path, files: Files) -> Recipe:
    column = "text" if files.media == "text" else files.media
    values = files.captions if files.media == "text" else map(str, files.paths)
    _write_lines(folder / "samples.jsonl", ({column: value} for value in values), files)
    return {"format": "jsonl", "path": str(folder / "samples.jsonl"), column: column, "label": "class"}


def _write_lines(path: Path, records: Iterable[Mapping[str, Any]], files: Files) -> None:
    both = zip(records, files.labels, strict=True)
    lines = [json.dumps({**record, "class": CLASSES[label]}) + "\n" for record, label in both]
    path.write_text("".join(lines), encoding="utf-8")


def _parquet(folder: Path, files: Files) -> Recipe:
    import pyarrow
    import pyarrow.parquet

    columns = {"file": [path.read_bytes() for path in files.paths], "class": [CLASSES[label] for label in files.labels]}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "samples.parquet", row_group_size=16)
    return {"format": "parquet", "path": str(folder / "samples.parquet"), files.media: "file", "label": "class"}


def _text(folder: Path, files: Files) -> Recipe:
    (folder / "samples.txt").write_text("\n".join(files.captions) + "\n", encoding="utf-8")
    return {"format": "text", "path": str(folder / "samples.txt"), "min_words": 1}


def _tsv(folder: Path, files: Files) -> Recipe:
    lines = [f"{text}\t{CLASSES[label]}\n" for text, label in zip(files.captions, files.labels, strict=True)]
    (folder / "samples.tsv").write_text("".join(["sentence\tclass\n", *lines]), encoding="utf-8")
    return {"format": "tsv", "path": str(folder / "samples.tsv"), "text": "sentence", "label": "class"}


FORMATS: dict[str, Format] = {
    "folder": Format(media="image", kind="image_classification", write=_folder),
    "coco_captions": Format(media="image", kind="image_captioning", write=_coco_captions),
    "webdataset": Format(media="image", kind="image_classification", write=_webdataset),
    "csv": Format(media="image", kind="image_classification", write=_csv),
    "jsonl": Format(media="image", kind="image_classification", write=_jsonl),
    "parquet": Format(media="image", kind="image_classification", write=_parquet, needs="pyarrow"),
    "folder of clips": Format(media="clip", kind="video_classification", write=_folder),
    "webdataset of clips": Format(media="clip", kind="video_classification", write=_webdataset),
    "text": Format(media="text", kind="masked_language_modelling", write=_text),
    "tsv": Format(media="text", kind="text_classification", write=_tsv),
    "jsonl of texts": Format(media="text", kind="text_classification", write=_jsonl),
}


def written(name: str, folder: Path, files: Files) -> Recipe:
    """The files in that format, in a folder of its own, as a recipe names them."""
    place = folder / name.replace(" ", "_")
    os.makedirs(place, exist_ok=True)
    return FORMATS[name].write(place, files)
