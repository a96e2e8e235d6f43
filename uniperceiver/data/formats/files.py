"""What the formats share: paths that must exist, lists of files, JSON, class names, many strings in little room.

Shape suffixes: U strings.
"""

import io
import json
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uniperceiver.data.media.decode import missing_decoders
from uniperceiver.errors import POINTER, BrokenSample, UserError, is_pointer, kind_of_path, listed, nearest
from uniperceiver.modalities import MODALITIES, modality_of_file, refuse_heavy

LINKED, HIDDEN = "/", "."  # links to folders, and hidden names, among the suffixes of what is not taken
_MAY_MOVE = ("gif", "webp")
_WHOLE = re.compile(r"([0-9]+)\.0+")  # as programs write integers where a column lacks a value
# How compressed files begin, and what unpacks them.
_PACKED = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ\0": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}


@dataclass(frozen=True, kw_only=True)
class Strings:
    """Many strings in two buffers: loader processes share them, where a list of strings would be copied to each."""

    blob: bytes | np.ndarray  # or uint8, where a file is mapped
    stop_U: np.ndarray  # int64, end of each string in `blob`

    @staticmethod
    def of(texts: Iterable[str]) -> "Strings":
        """Pack them; halves of characters survive, as file names and JSON may have them."""
        parts = [text.encode("utf-8", "surrogatepass") for text in texts]
        return Strings(blob=b"".join(parts), stop_U=np.cumsum([len(part) for part in parts], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.stop_U)

    def __getitem__(self, index: int) -> str:
        index = range(len(self))[index]
        start = int(self.stop_U[index - 1]) if index else 0
        return bytes(self.blob[start : int(self.stop_U[index])]).decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))


def is_of_system(name: str) -> bool:
    """Whether a file or folder is one that macOS writes beside those that are meant: ._x.jpg, .DS_Store, __MACOSX."""
    return name.startswith("._") or name in (".DS_Store", "__MACOSX")


def seen(names: Iterable[str], left_out: Counter[str]) -> list[str]:
    """The names that are not hidden; of those that are, all but what macOS writes by itself is counted."""
    own = [name for name in names if not is_of_system(name)]
    shown = [name for name in own if not name.startswith(".")]
    left_out.update([HIDDEN] * (len(own) - len(shown)))
    return shown


def not_taken(place: object, counts: Mapping[str, int]) -> tuple[str, ...]:
    """A line that says how many files of a place are left out, by suffix; none where none is."""
    if not counts:
        return ()
    total = sum(counts.values())
    kinds = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    names = {"": "without a suffix", LINKED: "linked folders", HIDDEN: "hidden"}
    what = listed((f"{count:,} {names.get(suffix, f'.{suffix}')}" for suffix, count in kinds), 6)
    missing = missing_decoders()
    mends = dict.fromkeys(missing[suffix] for suffix in counts if suffix in missing)
    advice = f"; to read them: {', '.join(mends)}" if mends else ""
    return (f"{place}: {total:,} {'files are' if total > 1 else 'file is'} not taken: {what}{advice}",)


def first_frames(place: object, files: Iterable[str]) -> tuple[str, ...]:
    """A line that says how many pictures of a place may move, by suffix: the first frame is taken, unlike of a clip."""
    counts = Counter(suffix for file in files if (suffix := suffix_of(file)) in _MAY_MOVE)
    what = ", ".join(f"{count:,} .{suffix}" for suffix, count in sorted(counts.items()))
    return (f"{place}: {what}: of those that move, the first frame is taken",) if counts else ()


def printable(name: str) -> str:
    """A file name as a sample's name: bytes that are not UTF-8 become a mark that every log can print."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # of JSON, not of a file system
        return name.encode("utf-8", "replace").decode("utf-8")


def existing(base: Path, path: str, where: str) -> Path:
    """`path`, relative to `base`, which must exist; else a UserError that offers the nearest name."""
    full = base / Path(path).expanduser()
    if not full.exists():
        raise UserError(f"{where}: {full}: no such file or folder; {_offer(full)}")
    return full


def existing_folder(base: Path, path: str, where: str) -> Path:
    """`path`, relative to `base`, which must be a folder; else a UserError."""
    full = existing(base, path, where)
    if not full.is_dir():
        raise UserError(f"{where}: {full} is a file; give a folder")
    return full


def existing_file(base: Path, path: str, where: str) -> Path:
    """`path`, relative to `base`, which must be a file; else a UserError."""
    full = existing(base, path, where)
    if not full.is_file():
        raise UserError(f"{where}: {full} is {kind_of_path(full)}; give a file")
    return full


def others_beside(base: Path, path: str | Sequence[str], suffix: str) -> tuple[str, ...]:
    """What the folders hold that a path names, beside the files with that suffix: a line for each folder."""
    notes: list[str] = []
    for entry in [path] if isinstance(path, str) else path:
        if (folder := base / Path(entry).expanduser()).is_dir():
            files = (file.name for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
            notes += not_taken(folder, Counter(suffix_of(name) for name in files if not name.lower().endswith(suffix)))
    return tuple(notes)


def short_names(files: Sequence[Path]) -> tuple[str, ...]:
    """Each file's name below the folder that all share: unique and readable."""
    shared = os.path.commonpath([file.parent for file in files])
    return tuple(printable(Path(os.path.relpath(file, shared)).as_posix()) for file in files)


def listed_suffixes() -> dict[str, str]:
    """Modality by suffix (lower case, without the dot) of the files that can be decoded here."""
    suffixes = {suffix[1:]: name for name, modality in MODALITIES.items() for suffix in modality.suffixes}
    missing = missing_decoders()
    return {suffix: name for suffix, name in suffixes.items() if suffix not in missing}


def suffix_of(name: str) -> str:
    """The suffix of a file name, in lower case and without the dot; "" where it has none."""
    return os.path.splitext(name.strip())[1][1:].lower()


def refuse_packed(path: Path, data: bytes, where: str) -> None:
    """Refuse a file by its first bytes that is compressed, or that Git LFS has not fetched.

    Raises:
        UserError: it is one.
    """
    if is_pointer(data):
        raise UserError(f"{where}: {path} is {POINTER}")
    for magic, tool in _PACKED.items():
        if data.startswith(magic) and (tool != "bunzip2" or data[4:10] in (b"1AY&SY", b"\x17rE8P\x90")):
            raise UserError(f"{where}: {path} is compressed; unpack it first ({tool})")


def read_json(path: Path, where: str) -> Any:
    """The content of a JSON file; a UserError where it is none."""
    try:
        data = path.read_bytes()
        refuse_packed(path, data, where)
        return json.loads(data)
    except OSError as error:
        raise UserError(f"{where}: {path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: {path}: not valid JSON ({error}); is the file complete?") from None


def read_lines(path: Path, where: str, encoding: str = "utf-8") -> list[tuple[int, str]]:
    """The lines of a text file that are not empty, without white space around them, after their numbers from 1.

    Raises:
        UserError: it cannot be read, or is not of that encoding.
    """
    try:
        data = path.read_bytes()
        refuse_packed(path, data, where)
        with io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig" if encoding == "utf-8" else encoding) as file:
            lines = file.read().split("\n")
    except LookupError:
        raise UserError(f"{where}: encoding: unknown encoding {encoding!r}; use utf-8, utf-16, cp1252, ...") from None
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"{where}: {path}: cannot be read as {encoding.upper()} text ({error}); save it as UTF-8"
        ) from None
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def read_bytes(path: Path, sample: str, start: int = 0, size: int = -1) -> bytes:
    """A part of a file. It is opened anew each time: no handle crosses a fork, and it costs 20 microseconds.

    Raises:
        BrokenSample: missing, unreadable, shorter than that, or larger than files of its kind may be.
    """
    try:
        path = as_spelt_there(path)
        if not stat.S_ISREG((facts := os.stat(path)).st_mode):  # to open a pipe would wait, a device need not end
            raise BrokenSample(sample, f"{path}: not a plain file")
        refuse_heavy(modality_of_file(path.suffix), facts.st_size if size < 0 else size, sample)
        with open(path, "rb") as file:
            file.seek(start)
            data = file.read(size)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise BrokenSample(sample, f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from None
    if size >= 0 and len(data) != size:
        raise BrokenSample(sample, f"{path}: ends too early; it has changed since it was opened")
    return data


def as_spelt_there(path: Path) -> Path:
    """The path with its name as the file system has it: letters with accents are one character or two.

    macOS takes both as the same name, and archives made there bring the one, tables the other.
    """
    if not str(path).isascii() and not path.exists():  # in this order: most names need no look at the disk
        for form in ("NFC", "NFD"):
            if (other := Path(unicodedata.normalize(form, str(path)))).exists():
                return other
    return path


def decode_text(data: bytes, sample: str) -> str:
    """UTF-8 bytes as a text that is not empty, without white space around it; else a BrokenSample."""
    try:
        text = data.decode("utf-8").removeprefix("\ufeff").strip()
    except UnicodeDecodeError as error:
        raise BrokenSample(sample, f"not valid UTF-8 (byte {error.start})") from None
    if not text:
        raise BrokenSample(sample, "empty text")
    return text


def class_texts(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """The text of each class, as its name says it: `hot_air_balloon` reads "hot air balloon"."""
    return tuple((name.replace("_", " "),) for name in names)


def composed(name: str) -> str:
    """A name in the form in which an accent and its letter are one character (NFC), which names are compared in."""
    return unicodedata.normalize("NFC", name)


def sorted_names(labels: Iterable[str]) -> tuple[str, ...]:
    """The labels that occur, each once, by number if all are numbers; of two forms of one name, the first."""
    names = set({composed(label): label for label in sorted(labels, reverse=True) if label}.values())
    numbers = all(name.isascii() and name.removeprefix("-").isdigit() for name in names)
    return tuple(sorted(names, key=(lambda name: (int(name), name)) if numbers else None))


def label_of(value: str, index_of: dict[str, int]) -> int | None:
    """The class that a label means: a class name, or else an index of one; None: neither.

    Where a class is called by a number, numbers are names: "0" among the classes 1 to 5 is none of them. "1.0" is 1.
    """
    if value in index_of:
        return index_of[value]
    if whole := _WHOLE.fullmatch(value):
        return label_of(whole[1], index_of)
    if not value.isascii():
        return next((label for name, label in index_of.items() if composed(name) == composed(value)), None)
    if not value.isdigit() or any(name.isascii() and name.isdigit() for name in index_of):
        return None
    return int(value) if int(value) < len(index_of) else None


def _offer(full: Path) -> str:
    try:
        names = [entry for entry in os.listdir(full.parent) if not entry.startswith(".")]
    except OSError:
        return f"there is no {full.parent} either; relative paths start at the recipe's folder"
    offer = nearest(full.name, names)
    return offer if len(names) <= 12 or offer.startswith("did") else "check the name"
