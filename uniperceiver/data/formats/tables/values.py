"""VALUES of a row as parts of a sample: texts, labels, and the bytes of pictures and clips."""

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

from uniperceiver.data.formats.files import read_bytes
from uniperceiver.errors import BrokenSample

_NAN = "nan"


def plain(value: Any) -> str:
    """A value as a text without white space around it; nothing (None) is the empty text.

    A whole number is written without a fraction, whether its column has integers or, because another row lacks a
    value, floats.

    Raises:
        ValueError: it is NaN, infinite, a list or a mapping, or not valid UTF-8; the reason alone.
    """
    if value is None:
        return ""
    if isinstance(value, list | tuple | dict):
        raise ValueError(f"holds {'a mapping' if isinstance(value, dict) else 'a list'}, not one text or number")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("is NaN" if math.isnan(value) else "is infinite")
        value = int(value) if value.is_integer() else value
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    text = str(value).strip()
    try:
        text.encode("utf-8")  # not of bytes that were no UTF-8, nor of half a pair such as JSON's "\ud800"
    except UnicodeEncodeError as error:
        raise ValueError(f"is not valid UTF-8 (character {error.start})") from None
    return text


def filled(value: Any, name: str, sample: str, missing: str = "empty text") -> str:
    """A value as text that is not empty; `name` is what a message calls it.

    Raises:
        BrokenSample: there is none.
    """
    try:
        text = plain(value)
    except ValueError as error:
        raise BrokenSample(sample, f"{name} {error}") from None
    if not text:
        raise BrokenSample(sample, f"{missing} in {name}")
    return text


def _said(text: str, name: str, sample: str) -> str:
    """The text, unless it is the "nan" by which tables that were written by a program say that there is none."""
    if text.lower() == _NAN:
        raise BrokenSample(sample, f"{name} is NaN")
    return text


def text_of(value: Any, column: str, sample: str) -> str:
    """A text that is not empty.

    Raises:
        BrokenSample: there is none.
    """
    name = f"column {column!r}"
    return _said(filled(value, name, sample), name, sample)


def texts_of(value: Any, name: str, sample: str) -> tuple[list[str], list[BrokenSample]]:
    """Several texts, those of a list or the one that the value is; and why others are none, which cost themselves.

    Args:
        name: what a message calls the value.
    """
    texts, faults = [], []
    for text in value if isinstance(value, list | tuple) else [value]:
        try:
            texts.append(_said(filled(text, name, sample), name, sample))
        except BrokenSample as error:
            faults.append(error)
    if not texts and not faults:
        faults.append(BrokenSample(sample, f"empty list in {name}"))
    return texts, faults


def left_out_captions(place: object, count: int) -> tuple[str, ...]:
    """A line that says how many captions of a place are left out; none where none is."""
    verb = "captions are" if count > 1 else "caption is"
    return (f"{place}: {count:,} {verb} empty or damaged and left out",) if count else ()


def label_text(value: Any, column: str, sample: str, names: Collection[str]) -> str:
    """What a row says about its class; "nan" says nothing, unless a class has that name.

    Raises:
        BrokenSample: it says nothing.
    """
    name = f"column {column!r}"
    text = filled(value, name, sample, "no label")
    return text if text in names else _said(text, name, sample)


def path_of(value: Any) -> str | None:
    """The path that a value names: itself, or the `path` in a mapping {bytes, path}; None: it names none."""
    if isinstance(value, dict):
        value = value.get("path")
    return (value.strip() or None) if isinstance(value, str) else None


def media_of(value: Any, column: str, folder: Path, sample: str) -> bytes:
    """The encoded picture or clip that a value is or names; relative paths start at `folder`.

    Raises:
        BrokenSample: there is none, or the file cannot be read.
    """
    data = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(data, bytes):
        return data
    path = path_of(value)
    if path is not None:
        return read_bytes(folder / path, sample)
    if value is None or isinstance(value, str | dict):
        raise BrokenSample(sample, f"no file in column {column!r}")
    raise BrokenSample(sample, f"column {column!r} holds a {type(value).__name__}, neither a path nor bytes")
