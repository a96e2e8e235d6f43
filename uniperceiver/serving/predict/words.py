"""WORDS OF A COMMAND LINE -> WHAT IS ASKED ABOUT: a FILE is a file, whatever it is called, and a folder its files.

A text is read only where it is said to be one; a file of a task that reads texts has one on each line.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from uniperceiver.data.formats.files import listed_suffixes, not_taken, read_lines, suffix_of
from uniperceiver.errors import UserError, warn
from uniperceiver.modalities import MODALITIES, TEXT, modality_of_file
from uniperceiver.serving.locate import refuse_missing

_LINES = ".txt"  # of a file with a text on each line


@dataclass(frozen=True, kw_only=True)
class AskedAbout:
    """What a model is asked about."""

    names: tuple[str, ...]  # in the answers: a path, a path and a line's number, or the text itself
    things: tuple[Path | str, ...]  # a path of an image or clip, or a text
    modality: str | None  # None: images and clips, told apart by their names


def asked_about(words: Sequence[str], modality: str | None, *, as_text: bool, keep_going: bool) -> AskedAbout:
    """What the words name.

    Args:
        modality: what the task looks at; None: no task is named.
        as_text: the words are texts themselves.
        keep_going: a file that is not there is a matter of its own.

    Raises:
        UserError: no such file, a folder without any, texts beside pictures, or files that the task does not look at.
    """
    if as_text:
        if modality not in (None, TEXT):
            raise UserError(f"--text: the task looks at {MODALITIES[str(modality)].noun}s, not at texts; leave it out")
        return AskedAbout(names=tuple(words), things=tuple(words), modality=TEXT)
    files = [file for word in words for file in _files_of(word, modality, keep_going=keep_going)]
    kinds = Counter(_modality_of(file) for file in files)
    if modality is None and len(kinds) > 1 and TEXT in kinds:
        counts = " and ".join(f"{count:,} {MODALITIES[name].noun}s" for name, count in kinds.items())
        raise UserError(f"{counts}; ask about one of them at a time, or name a task that looks at one: --task NAME")
    if modality is None and len(kinds) == 1:
        (modality,) = kinds
    if modality != TEXT:
        others = (file for file in files if modality and modality_of_file(file.suffix) not in (None, *_held(modality)))
        if not keep_going and (wrong := next(others, None)):
            noun = MODALITIES[modality_of_file(wrong.suffix) or TEXT].noun
            raise UserError(
                f"{wrong}: its name is that of {noun}s, and the task looks at {MODALITIES[str(modality)].noun}s; leave "
                "it out, or name another task"
            )
        return AskedAbout(names=tuple(map(str, files)), things=tuple(files), modality=modality)
    if wrong := next((file for file in files if modality_of_file(file.suffix)), None):
        noun = MODALITIES[modality_of_file(wrong.suffix) or TEXT].noun
        raise UserError(
            f"{wrong}: its name is that of {noun}s, and the task reads texts; name a file of texts, or --text"
        )
    lines = [(f"{file}:{number}", text) for file in files for number, text in read_lines(file, "predict")]
    if not lines:
        raise UserError(f"{files[0]}: no text in it; write one on each line, or give texts themselves with --text")
    return AskedAbout(names=tuple(name for name, _ in lines), things=tuple(text for _, text in lines), modality=TEXT)


def _held(modality: str) -> tuple[str, ...]:
    """The modalities of files that hold it, by their names: sounds lie in sound tracks of clips, too."""
    track_of = MODALITIES[modality].track_of
    return (modality,) if track_of is None else (modality, track_of)


def _modality_of(file: Path) -> str:
    """By the suffix; where that says nothing, the decoder of images will."""
    return TEXT if file.suffix.lower() == _LINES else modality_of_file(file.suffix) or "image"


def _files_of(word: str, modality: str | None, *, keep_going: bool) -> Iterator[Path]:
    """The file itself, or those of a folder at any depth, sorted; what is not taken is counted, and said once."""
    path = Path(word)
    if not os.path.isdir(word):  # not of the path, which would be this folder where the word is empty
        if not keep_going:
            refuse_missing([word])
        yield path
        return
    decoded = {_LINES.removeprefix("."): TEXT} if modality == TEXT else listed_suffixes()
    taken, others = list[Path](), Counter[str]()
    for folder, below, names in os.walk(path):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            kind = decoded.get(suffix_of(name))
            if kind is None or (modality is not None and kind not in _held(modality)):
                others[suffix_of(name)] += 1
            else:
                taken.append(Path(folder, name))
    for line in not_taken(word, others):
        warn(line)
    if not taken:
        noun = "images, clips or sounds" if modality is None else f"{MODALITIES[modality].noun}s"
        raise UserError(f"{word}: no {noun} in this folder; give another one, or files")
    yield from taken
