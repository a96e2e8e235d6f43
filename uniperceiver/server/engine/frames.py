"""FRAMES: what front and engine send each other: a head in JSON, and bytes as they are. Nothing is pickled.

4 bytes  length of the head       (both little-endian, without sign)
4 bytes  number of blobs
8 bytes  length of each blob
head, blobs
"""

import asyncio
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

MOST_HEAD, MOST_BLOBS, MOST_BYTES = 2**27, 2**16, 2**31  # beyond this it is no frame
_START = struct.Struct("<II")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One message."""

    head: Mapping[str, Any]
    blobs: Sequence[bytes] = field(default=())


class BrokenFrame(Exception):
    """What arrived is no frame, or ends within one."""


def pack(frame: Frame) -> bytes:
    """A frame as bytes."""
    head = json.dumps(frame.head, separators=(",", ":"), allow_nan=False).encode()
    lengths = struct.pack(f"<{len(frame.blobs)}Q", *map(len, frame.blobs))
    return b"".join((_START.pack(len(head), len(frame.blobs)), lengths, head, *frame.blobs))


def read(stream: BinaryIO) -> Frame | None:
    """The next frame of a stream; None: the other side has closed it.

    Raises:
        BrokenFrame: it is none.
    """
    start = _exactly(stream, _START.size, may_end=True)
    if not start:
        return None
    head_bytes, blobs = _checked(start)
    lengths = _lengths(_exactly(stream, 8 * blobs))
    return _frame(_exactly(stream, head_bytes), [_exactly(stream, length) for length in lengths])


async def receive(stream: asyncio.StreamReader) -> Frame:
    """The next frame of a stream.

    Raises:
        BrokenFrame: it is none, or the other side has gone.
    """
    try:
        head_bytes, blobs = _checked(await stream.readexactly(_START.size))
        lengths = _lengths(await stream.readexactly(8 * blobs))
        head = await stream.readexactly(head_bytes)
        return _frame(head, [await stream.readexactly(length) for length in lengths])
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise BrokenFrame(f"the stream has ended: {error}") from None


def _exactly(stream: BinaryIO, count: int, *, may_end: bool = False) -> bytes:
    data = stream.read(count) if count else b""  # a buffered reader gives all, or what there is before the end
    if len(data) < count and (data or not may_end):
        raise BrokenFrame(f"{len(data)} of {count} bytes")
    return data


def _checked(start: bytes) -> tuple[int, int]:
    head_bytes, blobs = _START.unpack(start)
    if head_bytes > MOST_HEAD or blobs > MOST_BLOBS:
        raise BrokenFrame(f"a head of {head_bytes} bytes and {blobs} blobs")
    return head_bytes, blobs


def _lengths(data: bytes) -> tuple[int, ...]:
    lengths = struct.unpack(f"<{len(data) // 8}Q", data)
    if sum(lengths) > MOST_BYTES:
        raise BrokenFrame(f"blobs of {sum(lengths)} bytes")
    return lengths


def _frame(head: bytes, blobs: Sequence[bytes]) -> Frame:
    try:
        values = json.loads(head)
    except ValueError as error:
        raise BrokenFrame(f"the head is no JSON: {error}") from None
    if not isinstance(values, dict):
        raise BrokenFrame("the head is no object")
    return Frame(head=values, blobs=blobs)
