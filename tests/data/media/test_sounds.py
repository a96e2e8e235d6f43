"""Sounds: every container at the right place, exact where nothing is lost, parts with silence around, resampled."""

import io
import math
import struct

import numpy as np
import pytest

from tests.sounds import click, encoded, riff, tone, wave_bytes
from uniperceiver.data.media import sounds
from uniperceiver.data.media.samples import array_sound
from uniperceiver.data.media.sounds import StoredSound, decode_sound, hear_sound, stored_sound

KINDS = [
    ("wav", "pcm_s16le", 16_000), ("w64", "pcm_s16le", 16_000), ("aiff", "pcm_s16be", 16_000), ("flac", "flac", 44_100),
    ("mp3", "libmp3lame", 44_100), ("ipod", "aac", 16_000), ("mp4", "aac", 22_050), ("mov", "aac", 16_000),
    ("ogg", "libopus", 48_000), ("ogg", "flac", 16_000), ("webm", "libopus", 48_000), ("matroska", "flac", 16_000),
]  # fmt: skip


def whole(seconds: float) -> tuple[float, float]:
    """The window that takes all."""
    return 0.0, seconds


def loudest(x_L: np.ndarray, rate: int = 16_000) -> float:
    """At which second a click is."""
    return int(np.abs(x_L).argmax()) / rate


@pytest.mark.parametrize(("kind", "codec", "rate"), KINDS)
def test_a_click_stays_where_it_is(kind: str, codec: str, rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(click(rate=rate), rate, kind, codec)
    assert loudest(decode_sound(data, "x", 16_000, whole)) == pytest.approx(0.5, abs=2e-3)
    long = encoded(click(at=14.25, seconds=16, rate=rate), rate, kind, codec)
    assert stored_sound(long, "x").seconds == pytest.approx(16, abs=0.15)
    for in_memory in (600, 5):  # seconds: packets are counted, or the place is looked for
        monkeypatch.setattr(sounds, "_IN_MEMORY", in_memory)
        part_L = decode_sound(long, "x", 16_000, lambda seconds: (13.25, 15.0))
        assert part_L.shape == (28_000,)
        assert loudest(part_L) == pytest.approx(1.0, abs=2e-3)
        assert np.abs(part_L).max() > 0.5


@pytest.mark.parametrize(("kind", "codec"), [("mp4", "aac"), ("matroska", "flac"), ("mov", "pcm_s16le")])
def test_the_sound_track_of_a_clip(kind: str, codec: str) -> None:
    data = encoded(click(), 16_000, kind, codec, clip_frames=10)
    assert loudest(decode_sound(data, "x", 16_000, whole)) == pytest.approx(0.5, abs=2e-3)
    two = encoded(tone(), 16_000, kind, codec, tracks=2)
    assert np.abs(decode_sound(two, "x", 16_000, lambda s: (0.2, 0.8))).max() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("form", ["u1", "i2", "i3", "i4", "f4", "f8"])
def test_a_wave_file_is_exact_in_every_form(form: str) -> None:
    bits = 8 * int(form[1])
    integers = np.random.default_rng(0).integers(-(1 << bits - 1), 1 << bits - 1, 300) if form[0] != "f" else None
    if integers is None:
        values = np.random.default_rng(0).uniform(-1, 1, 300).astype(form)
        data, expected = riff(values.tobytes(), form=3, bits=bits), values.astype(np.float32)
    else:
        shifted = (integers + 128).astype("u1") if bits == 8 else integers.astype("<i4")
        payload = (
            shifted.tobytes() if bits in (8, 32) else b"".join(struct.pack("<i", v)[: bits // 8] for v in integers)
        )
        data, expected = riff(payload, bits=bits), integers.astype(np.float32) / np.float32(2.0 ** (bits - 1))
    np.testing.assert_array_equal(decode_sound(data, "x", 16_000, whole), expected)


def test_flac_is_exact() -> None:
    values = np.random.default_rng(0).integers(-32768, 32768, 5000)
    data = encoded(values / 32768, kind="flac", codec="flac")
    np.testing.assert_array_equal(decode_sound(data, "x", 16_000, whole), (values / 32768).astype(np.float32))


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_resampling_keeps_what_the_lower_rate_has_and_takes_away_the_rest(rate: int) -> None:
    def gain(hertz: float) -> float:
        data = riff(tone(1.0, rate, hertz).tobytes(), form=3, rate=rate, bits=32)
        x_L = decode_sound(data, "x", 16_000, lambda seconds: (0.25, 0.75))
        return 20 * math.log10(np.sqrt(np.mean(x_L.astype(np.float64) ** 2)) / (0.5 / math.sqrt(2)))

    assert gain(1000) == pytest.approx(0, abs=0.05)
    assert gain(5000) == pytest.approx(0, abs=0.05)
    assert gain(9000) < -55
    assert gain(12_000) < -90


def test_around_a_sound_there_is_silence() -> None:
    x_L = tone(0.25)
    for read in (
        lambda window: decode_sound(riff(x_L.tobytes(), form=3, bits=32), "x", 16_000, window),
        lambda window: array_sound(x_L, 16_000, "x", 16_000, window),
    ):
        part_L = read(lambda seconds: (-0.5, 0.5))
        assert part_L.shape == (16_000,)
        assert not part_L[:8000].any()
        np.testing.assert_array_equal(part_L[8000:12_000], x_L)
        assert not part_L[12_000:].any()
        assert not read(lambda seconds: (seconds + 1, seconds + 2)).any()
        np.testing.assert_array_equal(read(lambda seconds: (0.125, 0.1875)), x_L[2000:3000])


def test_channels_are_averaged_and_the_loudest_taken_where_they_cancel() -> None:
    left_L = tone()
    for other_L, expected_L in (
        (left_L, left_L),
        (0 * left_L, left_L / 2),
        (-left_L, left_L),
        (-0.5 * left_L, left_L / 4),
    ):
        stereo = np.stack([left_L, other_L], axis=1)
        np.testing.assert_allclose(array_sound(stereo, 16_000, "x", 16_000, whole), expected_L, atol=1e-7)
        read_L = decode_sound(wave_bytes(stereo), "x", 16_000, whole)
        np.testing.assert_allclose(read_L, expected_L, atol=5e-5)
    np.testing.assert_array_equal(
        array_sound(stereo.T, 16_000, "x", 16_000, whole), array_sound(stereo, 16_000, "x", 16_000, whole)
    )


@pytest.mark.parametrize("channels", [2, 6, 7, 32])
def test_many_channels_are_no_louder_than_each(channels: int) -> None:
    x = np.repeat(tone()[:, None], channels, axis=1)
    data = riff((x * 32767).astype("<i2").tobytes(), channels=channels)
    assert np.abs(decode_sound(data, "x", 16_000, whole)).max() == pytest.approx(0.5, abs=1e-3)
    assert stored_sound(data, "x").channels == channels


def test_what_a_file_says_and_what_is_heard() -> None:
    data = encoded(tone(2.0, 8000), 8000, "flac", "flac")
    assert stored_sound(data, "x") == StoredSound(seconds=2.0, rate=8000, channels=1)
    sound = hear_sound(data, "x")
    assert (sound.seconds, sound.rate, sound.channels, sound.silent) == (2.0, 8000, 1, False)
    assert hear_sound(wave_bytes(np.zeros(100, np.float32)), "x").silent


def test_the_same_file_gives_the_same_bits() -> None:
    data = encoded(tone(1.0, 44_100), 44_100, "mp3", "libmp3lame")
    first = decode_sound(data, "x", 16_000, whole)
    other = encoded(click(), kind="flac", codec="flac")
    for _ in range(5):
        decode_sound(other, "y", 8000, whole)
        np.testing.assert_array_equal(decode_sound(data, "x", 16_000, whole), first)


def test_integers_of_16_bits_in_memory() -> None:
    values = np.array([0, 16384, -32768], dtype=np.int16)
    np.testing.assert_array_equal(array_sound(values, 16_000, "x", 16_000, whole), [0, 0.5, -1])
    assert io.BytesIO(wave_bytes(values / 32768)).getbuffer()[44:] == values.tobytes()
