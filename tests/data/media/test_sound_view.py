"""What is heard of a sound: which part, at the moment of its clip, louder, noisier or masked; the fixed view in use."""

import io
import wave
from dataclasses import replace

import numpy as np
import pytest

from tests.sounds import click, encoded, tone, wave_bytes
from uniperceiver.config import AugmentConfig
from uniperceiver.data.media.mel import log_mel
from uniperceiver.data.media.preprocess import READERS, Preprocess, choose
from uniperceiver.data.media.sound_view import (
    heard_part,
    masked,
    noisy,
    played_sound,
    sound_grid,
    spectrogram_picture,
)
from uniperceiver.records import Sample
from uniperceiver.records.sounds import Sound, SoundShape

VIEW = Preprocess(seconds=0.512, hop=32, sound=SoundShape(mels=16, mean=-2.0, deviation=3.0))


def sample(x: np.ndarray, moment: float | None = None) -> Sample:
    """A sound in memory."""
    return Sample(id="x", others={"audio": Sound(x, 16_000)}, moment=moment)


def rng(seed: int = 0) -> np.random.Generator:
    """A stream."""
    return np.random.default_rng(seed)


def test_the_middle_is_heard_in_use_and_a_random_part_in_training() -> None:
    x_L = np.arange(32_000, dtype=np.float32) / 32_000
    np.testing.assert_array_equal(heard_part(sample(x_L), 16_000, 0.5), x_L[12_000:20_000])
    starts = {float(heard_part(sample(x_L), 16_000, 0.5, rng(seed))[0]) for seed in range(40)}
    assert len(starts) == 40
    assert min(starts) < 0.1
    assert max(starts) > 0.65
    for moment, first in ((0.0, 0), (1.0, 24_000), (0.25, 6000)):
        np.testing.assert_array_equal(heard_part(sample(x_L, moment), 16_000, 0.5, rng()), x_L[first : first + 8000])


def test_a_short_sound_lies_in_silence() -> None:
    x_L = tone(0.125) + 0.1
    part_L = heard_part(sample(x_L), 16_000, 0.5)
    np.testing.assert_array_equal(part_L[3000:5000], x_L)
    assert not part_L[:3000].any()
    assert not part_L[5000:].any()
    starts = {int(np.flatnonzero(heard_part(sample(x_L), 16_000, 0.5, rng(seed)))[0]) for seed in range(30)}
    assert min(starts) < 600
    assert max(starts) > 5400


def test_the_grid_is_log_mel_less_the_mean_over_the_deviation() -> None:
    x_L = (tone(0.512) + 0.05 * rng().standard_normal(8192)).astype(np.float32)
    expected_FM = (log_mel(x_L, 16_000, 32, 16) + 2) / 3
    np.testing.assert_allclose(sound_grid(sample(x_L), VIEW), expected_FM, rtol=1e-6)
    encoded_sample = Sample(id="x", others={"audio": encoded(x_L)})
    np.testing.assert_allclose(sound_grid(encoded_sample, VIEW), expected_FM, atol=0.05)
    track = Sample(id="x", clip=encoded(x_L, kind="matroska", clip_frames=5))
    np.testing.assert_array_equal(sound_grid(track, VIEW), sound_grid(encoded_sample, VIEW))


def test_augmentation_that_is_off_draws_nothing_and_the_fixed_view_has_none() -> None:
    strong = AugmentConfig(gain=20, noise=1.0, mask_time=1.0, mask_mels=1.0)
    given = sample(tone(1.0))
    plain_FM = READERS["audio"].values(given, VIEW, None, None).numpy()
    np.testing.assert_array_equal(READERS["audio"].values(given, VIEW, strong, None).numpy(), plain_FM)
    stream = rng()
    READERS["audio"].values(given, VIEW, AugmentConfig(), stream)
    other = rng()
    other.random()  # where the part begins
    assert stream.random() == other.random()
    assert not np.array_equal(READERS["audio"].values(given, VIEW, strong, rng()).numpy(), plain_FM)


def test_gain_is_a_factor_within_its_decibels() -> None:
    x_L = tone(0.1)
    decibels = [20 * np.log10(noisy(x_L, AugmentConfig(gain=6), rng(seed)).max() / x_L.max()) for seed in range(200)]
    assert -6 <= min(decibels) < -5
    assert 5 < max(decibels) <= 6


def test_noise_lies_10_to_30_decibels_below_the_sound() -> None:
    x_L = tone(1.0)
    below = []
    for seed in range(50):
        noise_L = noisy(x_L, AugmentConfig(noise=1.0), rng(seed)).astype(np.float64) - x_L
        below.append(10 * np.log10(np.square(x_L, dtype=np.float64).mean() / np.square(noise_L).mean()))
    assert 9.8 < min(below) < 12
    assert 28 < max(below) < 30.2
    heard = sum(noisy(x_L, AugmentConfig(noise=0.25), rng(seed)) is not x_L for seed in range(400))
    assert 60 < heard < 140
    assert np.isfinite(noisy(0 * x_L, AugmentConfig(noise=1.0), rng())).all()


def test_masks_are_pieces_of_frames_and_of_bands() -> None:
    grid_FM = np.ones((20, 10), np.float32)
    widest = np.zeros(2, int)
    for seed in range(200):
        blank_FM = masked(grid_FM, AugmentConfig(mask_time=0.5, mask_mels=0.3), rng(seed)) == 0
        frames, bands = blank_FM.all(axis=1), blank_FM.all(axis=0)
        np.testing.assert_array_equal(blank_FM, frames[:, None] | bands)
        for blank in (frames, bands):  # one piece
            assert np.abs(np.diff(blank.astype(int))).sum() <= 2
        widest = np.maximum(widest, [frames.sum(), bands.sum()])
    assert widest.tolist() == [10, 3]
    assert grid_FM.all()
    assert masked(grid_FM, AugmentConfig(), rng()) is grid_FM


@pytest.mark.parametrize("moment", [0.0, 0.3, 1.0])
def test_a_clip_and_its_sound_are_taken_at_one_moment(moment: float) -> None:
    """A clip of 2 s, 10 frames a second, of which half a second is seen and more than that heard: one lies within the
    other."""
    view = replace(VIEW, frames=5, stride=1)
    clip = Sample(id="x", clip=encoded(click(0.9, 2.0), kind="mp4", codec="aac", clip_frames=20), moment=moment)
    first, *_, last = choose(20, view, rng(), clip.moment).tolist()
    start = (2.0 - view.seconds) * moment
    assert start - 0.05 <= first / 10
    assert (last + 1) / 10 <= start + view.seconds + 0.05
    heard_L = heard_part(clip, 16_000, view.seconds)
    assert (np.abs(heard_L).max() > 0.5) == (start <= 0.9 <= start + view.seconds)


def test_files_and_arrays_of_one_sound_are_alike() -> None:
    x_L = (tone(1.0) + 0.05 * rng().standard_normal(16_000)).astype(np.float32)
    np.testing.assert_allclose(
        sound_grid(Sample(id="x", others={"audio": wave_bytes(x_L)}), VIEW), sound_grid(sample(x_L), VIEW), atol=0.05
    )


def test_people_see_time_to_the_right_and_high_notes_above() -> None:
    x_L = np.concatenate([tone(0.256, hertz=500), tone(0.256, hertz=5000)])
    picture_HWC = spectrogram_picture(sample(x_L), VIEW)
    assert picture_HWC.dtype == np.uint8
    assert picture_HWC.shape == (96, 96, 3)  # 16 x 16, six times larger
    bright_HW = picture_HWC.sum(axis=2)
    first, second = bright_HW[:, :36].mean(axis=1).argmax(), bright_HW[:, 60:].mean(axis=1).argmax()
    assert first > 60
    assert second < 36
    assert spectrogram_picture(sample(0 * x_L), VIEW).shape == (96, 96, 3)


@pytest.mark.parametrize(
    ("seconds", "rate", "expected"), [(0.512, 16_000, (8192, 16_000)), (8.0, 48_000, (80_000, 16_000))]
)
def test_people_hear_five_seconds_at_most(seconds: float, rate: int, expected: tuple[int, int]) -> None:
    view = replace(VIEW, seconds=seconds, sound=SoundShape(rate=rate))
    x_L = tone(9.0)
    with wave.open(io.BytesIO(played_sound(sample(x_L), view))) as reader:
        assert (reader.getnframes(), reader.getframerate(), reader.getnchannels()) == (*expected, 1)
        heard_L = np.frombuffer(reader.readframes(expected[0]), "<i2") / 32767
    np.testing.assert_allclose(heard_L, heard_part(sample(x_L), 16_000, min(seconds, 5.0)), atol=1e-4)
