"""Where the lines of a text file lie: arrays of offsets, so that a file of any size is shared by all processes.

Shape suffixes: L lines, Y bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from uniperceiver.data.formats.text_file import TextFile
from uniperceiver.errors import UserError

_CHUNK = 1 << 24
_NEWLINE = 10
_IS_SPACE = np.isin(np.arange(256), list(b" \t\n\r\v\f\x1c\x1d\x1e\x1f"))


@dataclass(frozen=True, kw_only=True)
class Lines:
    """The lines of a file that hold a word."""

    start_L: np.ndarray  # int64, first byte
    stop_L: np.ndarray  # int64, byte after the last
    number_L: np.ndarray  # int64, counted from 1 with the empty lines
    words_L: np.ndarray  # int64, runs of bytes between white space


def index_lines(text: TextFile, where: str) -> Lines:
    """Find the lines of a text file, without decoding it.

    Raises:
        UserError: unreadable.
    """
    parts = [np.zeros((4, 0), dtype=np.int64)]
    lines = 0
    try:
        for begin, block in _blocks(text):
            part_4L = _index_block(np.frombuffer(block, dtype=np.uint8))
            ends = part_4L.shape[1]
            part_4L[:2] += begin
            part_4L[2] += lines
            lines += ends
            parts.append(part_4L[:, part_4L[3] > 0])
    except OSError as error:
        raise UserError(f"{where}: {text.path}: cannot be read ({error.strerror})") from None
    start_L, stop_L, number_L, words_L = np.concatenate(parts, axis=1)
    return Lines(start_L=start_L, stop_L=stop_L, number_L=number_L, words_L=words_L)


def _blocks(text: TextFile) -> Iterator[tuple[int, bytes]]:
    """Whole lines, many at a time, with the offset of the first."""
    with text.open() as file:
        begin = text.start
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
