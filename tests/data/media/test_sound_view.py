"""SAMPLE -> GRID: which part of a sound is heard, and as which numbers.

Shape suffixes: L samples, F rows, M columns.
"""

from dataclasses import replace

import numpy as np
import pytest

from tests.sounds import click, encoded, tone, wave_bytes
from uniperceiver.data.media.mel import log_mel
from uniperceiver.data.media.pixels import Preprocess, clip_array
from uniperceiver.data.media.sound_view import sound_grid
from uniperceiver.errors import BrokenSample
from uniperceiver.records import Sample
from uniperceiver.records.sounds import Sound, SoundShape
from uniperceiver.streams import numpy_stream

RATE = 8000
SHAPE = SoundShape(rate=RATE, mels=16, patch=(4, 8), mean=-3.0, deviation=2.0)
VIEW = Preprocess(seconds=0.512, hop=32, sound=SHAPE, size=8, frames=2)
WAVES = replace(VIEW, sound=SoundShape(rate=RATE, kind="waveform", patch=(1, 128)))


def of(x: np.ndarray, rate: int = RATE) -> Sample:
    return Sample(id="s", others={"audio": Sound(x, rate)})


def loudest(grid_FM: np.ndarray) -> int:
    """The place of the loudest sample of a waveform's grid."""
    return int(np.abs(grid_FM).argmax())


def test_the_grid_is_log_mel_less_the_mean_over_the_deviation() -> None:
    x_L = tone(0.512, RATE)
    grid_FM = sound_grid(of(x_L), VIEW)
    assert (grid_FM.shape, grid_FM.dtype) == ((16, 16), np.float32)
    np.testing.assert_array_equal(grid_FM, (log_mel(x_L, RATE, 32, 16) + np.float32(3)) / np.float32(2))


def test_the_middle_of_a_longer_sound_is_heard_and_silence_around_a_shorter_one() -> None:
    assert loudest(sound_grid(of(click(1.0, 2.0, RATE)), WAVES)) == pytest.approx(0.256 * RATE, abs=16)
    grid_FM = sound_grid(of(np.full(800, 0.5, np.float32)), WAVES)
    assert np.flatnonzero(grid_FM).tolist() == list(range(2048 - 400, 2048 + 400))


def test_training_hears_a_random_part_of_all_that_there_are() -> None:
    places = [
        loudest(sound_grid(of(click(0.3, 0.6, RATE)), WAVES, numpy_stream(0, "part", number))) for number in range(40)
    ]
    assert min(places) < (0.3 - 0.088 + 0.02) * RATE
    assert max(places) > (0.3 - 0.02) * RATE
    starts = [np.flatnonzero(sound_grid(of(np.ones(400, np.float32)), WAVES, numpy_stream(number)))[0] for number in range(40)]
    assert min(starts) < 400
    assert max(starts) > 4096 - 800
    again = sound_grid(of(click(0.3, 0.6, RATE)), WAVES, numpy_stream(0, "part", 0))
    assert loudest(again) == places[0]


def test_a_clip_and_its_sound_are_seen_and_heard_at_one_moment() -> None:
    """A clip whose pictures are as bright as it is late, with a click when it is half over."""
    clip = np.repeat(np.arange(20, dtype=np.uint8)[:, None, None, None] * 10, 8, 1).repeat(8, 2).repeat(3, 3)
    for moment in (0.0, 0.25, 0.5, 1.0):
        sample = replace(of(click(1.0, 2.0, RATE)), clip=clip, moment=moment)
        frames = clip_array(sample, replace(VIEW, clip_mean=(0.0,) * 3, clip_std=(1.0,) * 3), None, numpy_stream(0))
        first = round(float(frames[0].mean()) * 255 / 10)
        assert first == round(moment * 18)
        grid_FM = sound_grid(sample, WAVES, numpy_stream(0))
        begins = moment * (2.0 - 0.512)
        if begins < 1.0 < begins + 0.512:
            assert loudest(grid_FM) / RATE == pytest.approx(1.0 - begins, abs=0.01)
        else:
            assert not grid_FM.any()


def test_a_track_is_heard_where_there_is_no_sound_beside() -> None:
    x_L = tone(0.512, RATE)
    track = Sample(id="s", clip=encoded(x_L, RATE, "matroska", "flac", clip_frames=5))
    np.testing.assert_allclose(sound_grid(track, WAVES), x_L.reshape(-1, 128), atol=1e-4)
    beside = track.with_value("audio", wave_bytes(-x_L, RATE))
    np.testing.assert_allclose(sound_grid(beside, WAVES), -x_L.reshape(-1, 128), atol=1e-4)
    with pytest.raises(BrokenSample, match="s: has no sound"):
        sound_grid(replace(track, clip=np.zeros((2, 8, 8, 3), np.uint8)), VIEW)


def test_views_of_tasks_that_do_not_hear_say_nothing_of_sounds() -> None:
    assert not Preprocess().to_json().keys() & {"sound", "seconds", "hop"}
    assert {"sound", "seconds", "hop"} <= VIEW.to_json().keys()
