"""Whether a file is as long as it says, of containers of which FFmpeg does not notice."""

import pytest

from tests.sounds import encoded, tone, wave_bytes
from tests.sounds import riff as wave_file
from uniperceiver.data.media.containers import (
    avi_ends_early,
    matroska_ends_early,
    ogg_ends_early,
    says_how_long,
    wave_of_a_pipe,
)


def riff(size: int, payload: bytes) -> bytes:
    """A part of an AVI file that says it has this size."""
    return b"RIFF" + size.to_bytes(4, "little") + b"AVI " + payload


@pytest.mark.parametrize(
    ("data", "early"),
    [
        (riff(8, b"abcd"), False),
        (riff(8, b"ab"), True),
        (riff(9, b"abcde\0"), False),
        (riff(9, b"abcde"), False),  # without the byte that makes the size even
        (riff(9, b"abcd"), True),
        (riff(9, b"abcde\0") + riff(8, b"abcd"), False),
        (riff(9, b"abcde\0") + riff(8, b"ab"), True),
        (riff(0, b"abcd"), False),
        (riff(9, b"abcde\0") + riff(0xFFFFFFFF, b"ab"), False),  # a recording that was going on
    ],
)
def test_every_part_of_an_avi_file_says_where_it_ends(data: bytes, early: bool) -> None:
    assert avi_ends_early(data) == early


@pytest.mark.parametrize(
    ("size", "payload", "early"),
    [
        ("88", 8, False),
        ("88", 7, True),
        ("4008", 8, False),
        ("4008", 7, True),
        ("ff", 8, False),  # a recording that was going on, whatever the length of its size
        ("7fff", 8, False),
        ("01ffffffffffffff", 8, False),
        ("01fffffffffffffe", 8, True),
        ("00", 8, False),  # no size at all
    ],
)
def test_every_element_of_a_matroska_file_says_where_it_ends(size: str, payload: int, early: bool) -> None:
    header = bytes.fromhex("1a45dfa3 84 42868101")
    data = header + bytes.fromhex("18538067" + size) + b"m" * payload
    assert matroska_ends_early(data) == early


@pytest.mark.parametrize(("claimed", "pipe"), [(None, False), (0, True), (0xFFFFFFFF, True), (0xFFFFFFF0, False)])
def test_a_wave_file_of_a_pipe_claims_no_length_or_the_greatest(claimed: int | None, pipe: bool) -> None:
    assert wave_of_a_pipe(wave_file(bytes(40), claimed=claimed)) == pipe
    assert not wave_of_a_pipe(b"RIFX" + wave_file(bytes(40), claimed=claimed)[4:])


def test_an_mp3_file_says_how_long_it_is_behind_whatever_tag() -> None:
    says = encoded(tone(), kind="mp3", codec="libmp3lame")
    silent = encoded(tone(), kind="mp3", codec="libmp3lame", options={"write_xing": "0"})
    tag = b"ID3\x04\0\0" + bytes([0, 1, 0, 0]) + bytes(1 << 14)
    for data, expected in ((says, True), (silent, False), (tag + says, True), (tag + silent, False), (b"ID3", False)):
        assert says_how_long(data, "mp3") == expected
    assert not says_how_long(wave_bytes(tone()), "wav")


def test_the_last_page_of_an_ogg_file_is_all_there() -> None:
    data = encoded(tone(0.3, 48_000), 48_000, "ogg", "libopus")
    assert not ogg_ends_early(data)
    last = data.rindex(b"OggS")
    for length in range(last + 4, len(data)):
        assert ogg_ends_early(data[:length])
    assert not ogg_ends_early(data[:last])  # as a recording that was going on
    assert says_how_long(data, "ogg")
    assert not says_how_long(data + data, "ogg")
