"""Frames between front and engine come back as they were sent, and what is no frame is refused."""

import asyncio
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from uniperceiver.server.engine import frames
from uniperceiver.server.engine.frames import BrokenFrame, Frame

VALUES = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(), lambda inner: some.lists(inner, max_size=3)
)


def received(data: bytes) -> Frame:
    async def work() -> Frame:
        stream = asyncio.StreamReader()
        stream.feed_data(data)
        stream.feed_eof()
        return await frames.receive(stream)

    return asyncio.run(work())


@settings(max_examples=25, deadline=None)
@given(head=some.dictionaries(some.text(), VALUES, max_size=4), blobs=some.lists(some.binary(max_size=40), max_size=4))
def test_a_frame_comes_back(head: dict, blobs: list[bytes]) -> None:
    data = frames.pack(Frame(head=head, blobs=blobs))
    for frame in (received(data), frames.read(io.BytesIO(data))):
        assert frame == Frame(head=head, blobs=blobs)
    stream = io.BytesIO(data + data)
    assert frames.read(stream) == frames.read(stream)
    assert frames.read(stream) is None


@settings(max_examples=25, deadline=None)
@given(data=some.binary(min_size=1, max_size=60))
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    for read in (received, lambda data: frames.read(io.BytesIO(data))):
        try:
            frame = read(data)
        except BrokenFrame:
            continue
        assert frames.pack(frame)[:8] == data[:8]  # by chance it was one


@pytest.mark.parametrize("cut", [1, 7, 12, -1])
def test_a_frame_that_ends_early_is_refused(cut: int) -> None:
    data = frames.pack(Frame(head={"a": 1}, blobs=[b"12345"]))[:cut]
    with pytest.raises(BrokenFrame):
        received(data)
    with pytest.raises(BrokenFrame):
        frames.read(io.BytesIO(data))


def test_numbers_that_json_has_not_are_not_sent() -> None:
    with pytest.raises(ValueError, match="JSON"):
        frames.pack(Frame(head={"a": float("nan")}))
