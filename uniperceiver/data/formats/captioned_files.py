"""PICTURES AND THEIR TEXTS AS FILES: a text file beside each picture, or one list of picture#number and caption.

Shape suffixes: I pictures or clips.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uniperceiver.data.formats.files import (
    LINKED,
    Strings,
    as_spelt_there,
    existing_file,
    existing_folder,
    first_frames,
    listed_suffixes,
    not_taken,
    printable,
    read_bytes,
    read_lines,
    seen,
    suffix_of,
)
from uniperceiver.data.formats.tables.values import left_out_captions
from uniperceiver.errors import UserError
from uniperceiver.records import Sample
from uniperceiver.strict import record

_NUMBERED = re.compile(r"(.+)#\d+")


@record
class BesideSource:
    """A picture, clip or sound with a text file of the same name beside it: a.jpg and a.txt, a caption on each line."""

    path: str
    """The folder; files may lie at any depth below it."""
    suffix: str = ".txt"
    """Of the text files, such as .caption."""

    def open(self, base: Path, where: str) -> "CaptionedFiles":
        """Find the files, and read the texts."""
        root = existing_folder(base, self.path, where)
        taken, texts, left_out = _files_below(root, self.suffix)
        captions, without, damaged = dict[str, list[str]](), 0, 0
        for file in taken:
            text = os.path.splitext(file)[0] + self.suffix
            lines = []
            if text in texts:
                try:
                    lines = [line for _, line in read_lines(root / text, where)]
                except UserError:  # one of many: it costs its picture, and is counted
                    damaged += 1
            texts.discard(text)
            without += not lines
            if lines:
                captions[file] = lines
        if not captions:
            raise UserError(f"{where}: {root}: no picture has a text beside it, such as a.jpg and a{self.suffix}")
        counts = {
            f"of {len(taken):,} files have no text beside them and are left out": without,
            "texts cannot be read as UTF-8": damaged,
            "texts have no picture beside them": len(texts),
        }
        notes = (*not_taken(root, left_out), *(f"{root}: {count:,} {what}" for what, count in counts.items() if count))
        return CaptionedFiles.of(root, captions, notes, where)


@record
class FlickrCaptionsSource:
    """A line per caption: picture, # and a number, a tab, the caption; as the Flickr sets have them."""

    path: str
    """The list, such as results_20130124.token."""
    files: str | None = None
    """The folder of the pictures; None: that of the list."""
    encoding: str = "utf-8"
    """Of the list, such as cp1252."""

    def open(self, base: Path, where: str) -> "CaptionedFiles":
        """Read the list."""
        path = existing_file(base, self.path, where)
        root = path.parent if self.files is None else existing_folder(base, self.files, f"{where}: files")
        kept: dict[str, list[str]] = {}
        damaged = 0
        for _, line in read_lines(path, where, self.encoding):
            name, _, caption = line.partition("\t")
            match = _NUMBERED.fullmatch(name.strip())
            if match is not None and caption.strip():
                kept.setdefault(match[1], []).append(caption.strip())
            damaged += match is None or not caption.strip()
        if not kept:
            raise UserError(
                f"{where}: {path}: no line has picture.jpg#0, a tab and a caption; for other tables there are the "
                "formats csv and tsv"
            )
        if not any(as_spelt_there(root / name).is_file() for name in kept):
            raise UserError(f"{where}: {root} holds none of the pictures, not even {next(iter(kept))}; set key files")
        return CaptionedFiles.of(root, kept, left_out_captions(path, damaged), where)


@dataclass(frozen=True, kw_only=True)
class CaptionedFiles:
    """The opened files."""

    root: Path
    files: Strings  # below `root`
    captions: Strings  # of all files, one after the other
    stop_I: np.ndarray  # int64, end of each file's captions
    modality: str
    notes: tuple[str, ...]
    classes: None = None
    class_names: None = None

    @staticmethod
    def of(root: Path, captions: Mapping[str, list[str]], notes: tuple[str, ...], where: str) -> "CaptionedFiles":
        """Files with their captions.

        Raises:
            UserError: images, clips and sounds are mixed.
        """
        kinds = listed_suffixes()
        examples = {kinds.get(suffix_of(file), "image"): file for file in captions}
        if len(examples) > 1:
            raise UserError(
                f"{where}: {root} mixes kinds of files, such as {', '.join(examples.values())}; keep them apart"
            )
        return CaptionedFiles(
            root=root,
            files=Strings.of(captions),
            captions=Strings.of(text for texts in captions.values() for text in texts),
            stop_I=np.cumsum([len(texts) for texts in captions.values()], dtype=np.int64),
            modality=next(iter(examples)),
            notes=(*notes, *first_frames(root, captions)),
        )

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> Sample:
        """The encoded file and its captions."""
        file, start = self.files[index], int(self.stop_I[index - 1]) if index else 0
        captions = tuple(self.captions[number] for number in range(start, int(self.stop_I[index])))
        data = read_bytes(self.root / file, printable(file))
        return Sample(id=printable(file), captions=captions).with_value(self.modality, data)

    def names(self) -> Iterator[tuple[str, ...]]:
        """The path of each file below the folder."""
        return ((printable(file),) for file in self.files)

    def texts(self) -> Iterator[str]:
        """All captions."""
        return iter(self.captions)


def _files_below(root: Path, text_suffix: str) -> tuple[list[str], set[str], Counter[str]]:
    """Pictures, clips and sounds, text files, and the suffixes of all others; paths below `root`, sorted."""
    taken, texts, left_out = list[str](), set[str](), Counter[str]()
    kinds = listed_suffixes()
    for folder, below, files in os.walk(root):
        below[:] = seen(below, left_out)
        if linked := sum(os.path.islink(os.path.join(folder, name)) for name in below):
            left_out[LINKED] += linked
        for file in seen(files, left_out):
            path = (Path(folder).relative_to(root) / file).as_posix()
            if file.endswith(text_suffix):
                texts.add(path)
            elif suffix_of(file) in kinds:
                taken.append(path)
            else:
                left_out[suffix_of(file)] += 1
    return sorted(taken), texts, left_out
