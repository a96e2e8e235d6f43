"""Where the lines of a text file lie: arrays of offsets, so that a file of any size is shared by all processes.

Shape suffixes: L lines, Y bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from uniperceiver.errors import UserError

_CHUNK = 1 << 24
_NEWLINE = 10
_IS_SPACE = np.isin(np.arange(256), list(b" \t\n\r\v\f\x1c\x1d\x1e\x1f"))
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class Lines:
    """The lines of a file that hold a word."""

    start_L: np.ndarray  # int64, first byte
    stop_L: np.ndarray  # int64, byte after the last
    number_L: np.ndarray  # int64, counted from 1 with the empty lines
    words_L: np.ndarray  # int64, runs of bytes between white space


def index_lines(path: Path, where: str) -> Lines:
    """Find the lines of a UTF-8 file, without decoding it.

    Raises:
        UserError: unreadable, or UTF-16.
    """
    parts = [np.zeros((4, 0), dtype=np.int64)]
    lines = 0
    try:
        for begin, block in _blocks(path, where):
            part_4L = _index_block(np.frombuffer(block, dtype=np.uint8))
            ends = part_4L.shape[1]
            part_4L[:2] += begin
            part_4L[2] += lines
            lines += ends
            parts.append(part_4L[:, part_4L[3] > 0])
    except OSError as error:
        raise UserError(f"{where}: {path}: cannot be read ({error.strerror})") from None
    start_L, stop_L, number_L, words_L = np.concatenate(parts, axis=1)
    return Lines(start_L=start_L, stop_L=stop_L, number_L=number_L, words_L=words_L)


def utf8_start(file: IO[bytes], path: Path, where: str) -> int:
    """Go to the first byte of an opened text behind a byte order mark, and say which it is.

    Raises:
        UserError: the text is UTF-16.
    """
    head = file.read(3)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{where}: {path} is UTF-16; save it as UTF-8")
    start = len(_BYTE_ORDER_MARK) if head == _BYTE_ORDER_MARK else 0
    file.seek(start)
    return start


def _blocks(path: Path, where: str) -> Iterator[tuple[int, bytes]]:
    """Whole lines, many at a time, with the offset of the first."""
    with open(path, "rb") as file:
        begin = utf8_start(file, path, where)
        rest = b""
        while chunk := file.read(_CHUNK):
            cut = chunk.rfind(b"\n") + 1
            if not cut:
                rest += chunk
                continue
            block = rest + chunk[:cut]
            yield begin, block
            begin += len(block)
            rest = chunk[cut:]
        if rest:
            yield begin, rest


def _index_block(byte_Y: np.ndarray) -> np.ndarray:
    """Start, stop, number and words of every line, (4, L) int64."""
    stop_L = np.flatnonzero(byte_Y == _NEWLINE)
    if byte_Y[-1] != _NEWLINE:
        stop_L = np.append(stop_L, len(byte_Y))
    start_L = np.concatenate([[0], stop_L[:-1] + 1])
    space_Y = _IS_SPACE[byte_Y]
    word_start_Y = ~space_Y
    word_start_Y[1:] &= space_Y[:-1]
    words_L = np.add.reduceat(word_start_Y, start_L, dtype=np.int64)
    return np.stack([start_L, stop_L, np.arange(1, len(stop_L) + 1), words_L]).astype(np.int64)
