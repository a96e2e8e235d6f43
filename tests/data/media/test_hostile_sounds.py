"""Sounds that are damaged, lie or are none: each is one line that says what and how to mend it; odd ones are heard."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.sounds import encoded, riff, tone, wave_bytes
from uniperceiver.data.media import sounds
from uniperceiver.data.media.samples import array_sound
from uniperceiver.data.media.sounds import decode_sound, hear_sound, stored_sound
from uniperceiver.errors import BrokenSample

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 96_000)
TONE = tone()


def pcm(x: np.ndarray) -> bytes:
    """16 bits."""
    return (x * 32767).astype("<i2").tobytes()


def floats(*values: float, form: str = "<f4") -> bytes:
    """A WAV file of floats."""
    return riff(np.array(values * 100, form).tobytes(), form=3, bits=32 if form == "<f4" else 64)


def flipped(data: bytes, count: int, first: float = 0.3) -> bytes:
    """The file with that many damaged bytes behind its beginning."""
    changed = bytearray(data)
    for place in np.random.default_rng(0).integers(int(first * len(data)), len(data), count).tolist():
        changed[place] ^= 0xFF
    return bytes(changed)


def mp3(seconds: float = 2.0, xing: str = "1") -> bytes:
    return encoded(tone(seconds), 16_000, "mp3", "libmp3lame", {"write_xing": xing})


def ogg(x: np.ndarray) -> bytes:
    return encoded(x, 48_000, "ogg", "libopus")


def flac(seconds: float = 2.0, hours: float = 0) -> bytes:
    """Noise; perhaps with a header that tells another length."""
    data = bytearray(encoded(NOISE[: round(seconds * 16_000)]))
    if hours:  # 36 bits of STREAMINFO
        place = data.index(b"fLaC") + 4 + 4 + 13
        data[place : place + 5] = (round(hours * 3600 * 16_000) | data[place] >> 4 << 36).to_bytes(5, "big")
    return bytes(data)


def m4a(options: dict[str, str] | None = None) -> bytes:
    return encoded(tone(2.0), 16_000, "ipod", "aac", options)


def without(data: bytes, box: bytes) -> bytes:
    """An MP4 file up to one of its boxes."""
    return data[: data.index(box) - 4]


BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "the file is empty"),
    "header only": (lambda: riff(b""), "no samples"),
    "cut in the header": (lambda: wave_bytes(TONE)[:30], r"damaged or not a sound \(Invalid data"),
    "cut in the data": (lambda: wave_bytes(TONE)[:16_000], "the sound is truncated"),
    "one byte short": (lambda: wave_bytes(TONE)[:-1], "the sound is truncated"),
    "claims 4 GB": (lambda: riff(bytes(2000), claimed=0xFFFFFFF0), "the sound is truncated"),
    "rate 0": (lambda: riff(pcm(TONE), rate=0), "damaged or not a sound"),
    "rate 1": (lambda: riff(pcm(TONE), rate=1), "1 samples a second; a sound has 1,000 to 768,000"),
    "rate 999": (lambda: riff(pcm(TONE), rate=999), "999 samples a second; a sound has"),
    "rate 768,001": (lambda: riff(pcm(TONE), rate=768_001), "768,001 samples a second; a sound has"),
    "rate 2^32 - 1": (lambda: riff(pcm(TONE), rate=2**32 - 1), "damaged or not a sound"),
    "no channel": (lambda: riff(pcm(TONE), channels=0), "0 channels; a sound has 1 to 32"),
    "33 channels": (lambda: riff(pcm(TONE[:3300]), channels=33), "33 channels; a sound has 1 to 32"),
    "65,535 channels": (lambda: riff(bytes(2000), channels=65_535), "0 channels; a sound has 1 to 32"),
    "0 bits": (lambda: riff(pcm(TONE), bits=0), "a sound that no decoder knows"),
    "64 bits": (lambda: riff(bytes(800), bits=64), "samples of the form s64; save them as 16 bits"),
    "an unknown form": (lambda: riff(pcm(TONE), form=0x5555), "a sound that no decoder knows"),
    "not a number": (lambda: floats(0, np.nan), "a sample is not a number, or infinite"),
    "infinite": (lambda: floats(0, -np.inf), "a sample is not a number, or infinite"),
    "1e300": (lambda: floats(0, 1e300, form="<f8"), "a sample is not a number, or infinite"),
    "1e30": (lambda: floats(0, -1e30), r"values up to 1e\+30, where full scale is 1"),
    "integers as floats": (lambda: floats(0, 12345), "meant as integers\\? divide by 32768"),
    "half an MP3": (lambda: mp3()[: len(mp3()) // 2], r"the sound is truncated: 0\.939 of 2 seconds"),
    "damaged MP3": (lambda: flipped(mp3(), 400), "damaged or not a sound"),
    "damaged FLAC": (lambda: flipped(flac(), 400), "damaged"),
    "damaged byte of FLAC": (lambda: flipped(flac(), 1), "damaged: 0.1 seconds are missing at"),
    "first frame of FLAC": (lambda: flac()[:8300] + bytes(9000) + flac()[17_300:], "damaged|truncated"),
    "half a FLAC": (lambda: flac()[: len(flac()) // 2], "damaged or not a sound"),
    "half an Ogg": (lambda: ogg(NOISE)[:9000], "the sound is truncated"),
    "damaged Ogg": (lambda: flipped(ogg(NOISE), 20), "truncated|damaged"),
    "M4A without moov": (lambda: without(m4a(), b"moov"), "damaged or not a sound"),
    "half an M4A": (lambda: (data := m4a({"movflags": "frag_keyframe+empty_moov"}))[: len(data) // 2], "truncated"),
    "half a MKV": (lambda: (data := encoded(TONE, kind="matroska"))[: len(data) // 2], "truncated"),
    "a clip without sound": (lambda: encoded(TONE, kind="mp4", codec="aac", clip_frames=4, tracks=0), "no sound track"),
    "a web page": (lambda: b"<!doctype html><html>" + b"x" * 2000, "not a sound .*; it looks like a web page"),
    "a picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(200), "damaged or not a sound"),
    "a text": (lambda: b"hello " * 100, "damaged or not a sound"),
    "a playlist": (lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/x.wav\n", "not a sound"),
    "a concatenation": (lambda: b"ffconcat version 1.0\nfile /etc/x.wav\n", "not a sound"),
    "another playlist": (lambda: b"[playlist]\nFile1=/etc/x.wav\n", "not a sound"),
    "random bytes": (lambda: np.random.default_rng(0).bytes(100_000), "damaged or not a sound"),
    "a pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a pointer of Git LFS"),
    "10 hours": (lambda: flac(hours=10), "10.0 hours: more than 4; cut it into parts"),
    "600 MB": (lambda: memoryview(bytes(600 * 2**20)), "600 MiB: more than 512; cut it into parts"),  # type: ignore[dict-item,return-value]
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_sound_is_one_line(kind: str) -> None:
    make, reason = BROKEN[kind]
    data, began = make(), time.monotonic()
    for read in (lambda: decode_sound(data, "a.wav", 16_000, lambda s: (0, s)), lambda: hear_sound(data, "a.wav")):
        with pytest.raises(BrokenSample, match=rf"^a\.wav: .*({reason})") as raised:
            read()
        assert "\n" not in str(raised.value)
    assert time.monotonic() - began < 10  # a guard against hanging, not a measurement


ODD: dict[str, tuple[Callable[[], bytes], float]] = {  # and how many seconds they have
    "a sample": (lambda: riff(pcm(TONE[100:101])), 1 / 16_000),
    "ten samples": (lambda: riff(pcm(TONE[100:110])), 10 / 16_000),
    "a pipe's 0": (lambda: riff(pcm(TONE), claimed=0), 1),
    "a pipe's 2^32 - 1": (lambda: riff(pcm(TONE), claimed=0xFFFFFFFF), 1),
    "768 kHz": (lambda: riff(pcm(TONE), rate=768_000), 16 / 768),
    "1 kHz": (lambda: riff(pcm(TONE[:1000]), rate=1000), 1),
    "mu-law": (lambda: riff(bytes(range(256)) * 10, form=7, bits=8), 0.16),
    "zeros before MP3": (lambda: bytes(300) + mp3(), 2.088),
    "a large tag before MP3": (lambda: b"ID3\x04\0\0" + bytes([0, 64, 0, 0]) + bytes(1 << 20) + mp3(), 2),
    "tags behind MP3": (lambda: mp3() + b"TAG" + bytes(125), 2),
    "MP3 that does not know": (lambda: mp3(xing="0"), 2.088),
    "half of such an MP3": (lambda: mp3(xing="0")[:3154], 1.044),
    "moov at the end": (m4a, 2.048),
    "moov in front": (lambda: m4a({"movflags": "frag_keyframe+empty_moov"}), 2.112),
    "chained Ogg": (lambda: ogg(TONE) + ogg(TONE), 0.6667),
    "chained Ogg of another form": (lambda: ogg(np.stack([TONE, TONE], axis=1)) + ogg(NOISE), 0.334),
    "shorter than its picture": (lambda: encoded(tone(0.3), kind="mp4", codec="aac", clip_frames=20), 0.32),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_odd_is_heard(kind: str) -> None:
    make, seconds = ODD[kind]
    sound = hear_sound(make(), "x")
    assert sound.seconds == pytest.approx(seconds, abs=1e-3)
    assert not sound.silent
    assert np.abs(decode_sound(make(), "x", 16_000, lambda s: (-0.1, s + 0.1))).max() > 1e-3


def test_three_hours_are_placed_by_the_header_without_a_look_at_all_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    data = riff(bytes(3 * 3600 * 1000), rate=1000, bits=8)  # 8 bits of 0: full scale
    looked_at: list[object] = []
    demuxed = sounds._demuxed

    def counted(*of: Any) -> Iterator[object]:
        for packet in demuxed(*of):
            looked_at.append(packet)
            yield packet

    monkeypatch.setattr(sounds, "_demuxed", counted)
    part_L = decode_sound(data, "x", 1000, lambda seconds: (seconds / 2, seconds / 2 + 5))
    assert part_L.shape == (5000,)
    assert (part_L == -1).all()
    assert stored_sound(data, "x").seconds == pytest.approx(10_800)
    assert len(looked_at) < 200  # of 168,750


@pytest.mark.parametrize(
    ("array", "rate", "reason"),
    [
        (np.zeros((0,), np.float32), 16_000, r"an array of shape \(0,\) is no sound; give \(samples,\)"),
        (np.zeros((40, 40), np.float32), 16_000, r"shape \(40, 40\): samples and channels .* cannot be told apart"),
        (np.zeros((2, 3, 4), np.float32), 16_000, r"shape \(2, 3, 4\) is no sound"),
        (np.zeros((33, 50), np.float32), 16_000, r"channels \(at most 32\) cannot be told apart"),
        (np.zeros(40, np.int64), 16_000, r"samples of type int64; give int16, or floats from -1 to 1"),
        (np.full(40, np.nan), 16_000, "not a number"),
        (np.full(40, 300.0), 16_000, "meant as integers"),
        (np.zeros(40, np.float32), 0, "0 samples a second; a sound has"),
    ],
)
def test_arrays_that_are_no_sound(array: np.ndarray, rate: int, reason: str) -> None:
    with pytest.raises(BrokenSample, match=f"^x: .*{reason}"):
        array_sound(array, rate, "x", 16_000, lambda seconds: (0, seconds))


@pytest.mark.parametrize("shape", [(1000,), (2, 1000), (1000, 2)])
def test_arrays_of_other_shapes_and_types_are_heard(shape: tuple[int, ...]) -> None:
    part_L = array_sound(np.full(shape, 0.5), 16_000, "x", 16_000, lambda seconds: (0, seconds))
    assert part_L.dtype == np.float32
    assert part_L.shape == (1000,)
    assert (part_L == 0.5).all()
